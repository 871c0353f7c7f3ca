"""Backfill: bars and indicators of a range computed and stored again, resumable, one symbol in memory at a time.

What is computed depends on all that came before, so no value comes from a truncated beginning: indicators converge on
the bars before the range, and the cumulative ones carry on from what is stored there. Where something before the range
has not been computed yet, the computation begins there, and only what lies in the range is stored. What comes out as it
was stored is not written again.
"""
