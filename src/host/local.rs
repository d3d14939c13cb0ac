//! This machine as a server: programs are child processes.
