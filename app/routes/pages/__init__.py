"""Pages for people, in their own frame: the same functions as the API's routes, behind a session instead of a key."""

from app.routes.pages import decisions, exposure, home, models, policies, queue, system, tickets

routers = tuple(module.router for module in (home, tickets, queue, decisions, policies, models, exposure, system))
