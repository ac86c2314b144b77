"""Pages for people, in their own frame: the same functions as the API's routes, behind a session instead of a key."""

from app.routes.pages import home

routers = (home.router,)
