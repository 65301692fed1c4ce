"""The uplink: one stream to the collector, for ever.

uplink        the one class that others use: connects, comes back, recovers
states        which state of the connection follows which, on what
conversation  one stream from Hello to its end        stream       its wire end
outbox        what goes up when                       present      what is live and goes first
loader        records out of the spool                accounts     answers carried into the spool
answered      keys that are done with, as ranges
certificate   renewal and recovery, over the years    renewal      when a certificate is due
ending        how a stream ends                       plans        what is said of a plan
timing, pace  how long to wait for what
"""
