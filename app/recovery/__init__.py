"""After everything is lost: back-ups, restoring one, and replaying what came after it.

A *back-up* is one look at every table, and the artifacts that it names. The *journal* is the audit log as exported, with
what a replay of its tickets needs. The first is taken now and then, the second as often as one can.
"""
