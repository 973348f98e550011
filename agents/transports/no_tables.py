"""Faust's table manager for an app without Faust's tables: it starts at once."""

from __future__ import annotations

from faust.tables import TableManager


class NoTables(TableManager):
    """Faust waits a second for tables to be declared before it subscribes; a replay is shorter than that."""

    async def on_start(self) -> None:
        """Call when table manager is starting."""
        await self._update_channels()
        await self.recovery.start()
