"""The demonstration: a bank and a shop run, every process is killed, the money is counted all the while."""
