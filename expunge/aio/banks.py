"""The operator's seat, third part: reference banks."""

from expunge.address import part
from expunge.aio.http import Http
from expunge.bodies import checked
from expunge.models import BankRequest, BankView


class Banks:
    """Models that were trained without some subjects, to tell what a retrain would say."""

    def __init__(self, http: Http) -> None:
        self.http = http

    async def get(self, model: str, references: int | None = None) -> BankView:
        """A model's bank and what is still to be spent on it, or on one of so many references."""
        return await self.http.get(BankView, f"/models/{part(model)}/bank", references=references)

    async def order(self, model: str, references: int | None = None) -> BankView:
        """Order a bank, or let the one there is grow; by the policy's number where none is given."""
        with checked():
            asked = BankRequest(references=references)
        return await self.http.post(BankView, f"/models/{part(model)}/bank", asked)
