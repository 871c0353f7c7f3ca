"""The ledger's migrations, run by ``flows.ledger.upgrade``.

A new one is a file in ``versions`` whose ``down_revision`` is the newest before it; ``schema.REVISION`` then names it.
A migration that was released is never edited. It spells its tables out, because ``schema`` will go on changing.
"""
