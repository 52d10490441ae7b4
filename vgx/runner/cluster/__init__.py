"""A sweep on a Ray cluster: the driver plans and writes, workers train and send what they measure.

    connection   joins a cluster, or starts one, and says in a line why it cannot
    versions     what is installed on a node, asked before anything of vgx is sent there
    messages     what driver and worker tell each other
    worker       trains rounds on a node's devices
    pool         the workers: on which nodes, with how much of them, begun and lost
    place        runs the rounds of a sweep on them, and takes in what comes
    planning     what would go where

Only the driver writes the run directory, and no file is shared: data, checkpoints and the modules of a user's own parts
go to the workers, parts of the tables and checkpoints come back. Ray is imported inside functions alone.
"""
