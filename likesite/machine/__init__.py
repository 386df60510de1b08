"""The processes of one machine: what runs, what keeps it running, and the verbs of ./run.sh."""
