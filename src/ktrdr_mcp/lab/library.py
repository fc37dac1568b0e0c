"""Every model there is: those saved here, and those that KTRDR wrote into the workspace."""

from __future__ import annotations

from anyio import to_thread

from ktrdr_mcp.contract import requests
from ktrdr_mcp.errors import ModelNotFound
from ktrdr_mcp.lab import ktrdr_models
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.store.registry import ModelRegistry, ModelRow


class Library:
    """The registry, and beside it what lies in the models folder.

    Args:
        workspace: where models lie.
        registry: the models that were saved here.
    """

    def __init__(self, workspace: Workspace, registry: ModelRegistry) -> None:
        self._workspace = workspace
        self._registry = registry

    async def newest(self, name: str) -> ModelRow:
        """The version of a model that was made last.

        Raises:
            ModelNotFound: nothing has this name; names the models that exist.
            ModelCorrupted: KTRDR wrote a model of this name, and no version of it is whole.
        """
        theirs = await to_thread.run_sync(ktrdr_models.newest, self._workspace, name)
        try:
            ours = await self._registry.newest(name)
        except ModelNotFound as error:
            if theirs is not None:
                return theirs
            raise await self._not_found(error) from None
        return ours if theirs is None or ours.created_at >= theirs.created_at else theirs

    async def _not_found(self, error: ModelNotFound) -> ModelNotFound:
        """The registry's error, with the names of KTRDR's models."""
        names = await to_thread.run_sync(ktrdr_models.names, self._workspace)
        if not names:
            return error
        hint = f"{error.hint} Written by KTRDR: {', '.join(names[:10])}."
        return ModelNotFound(error.message, hint=hint, field=error.field)

    async def page(self, request: requests.ListModels) -> tuple[list[ModelRow], bool]:
        """A page of models: those saved here, then KTRDR's, each newest first.

        Returns:
            the rows, and whether there are more.
        """
        limit, offset, symbol = request.limit, request.offset, request.symbol
        saved = await self._registry.page(limit, offset, symbol)
        found = await to_thread.run_sync(ktrdr_models.rows, self._workspace, symbol)
        start = max(0, offset - await self._registry.count(symbol)) if found else 0
        room = 0 if saved.has_more else limit - len(saved.rows)
        shown = [*saved.rows, *found[start : start + room]]
        return shown, saved.has_more or len(found) > start + room

    async def names(self, prefix: str, limit: int) -> list[str]:
        """Names that begin with the prefix: those saved here first."""
        names = await self._registry.names(prefix, limit)
        found = await to_thread.run_sync(ktrdr_models.names, self._workspace, prefix)
        return [*names, *(name for name in found if name not in names)][:limit]
