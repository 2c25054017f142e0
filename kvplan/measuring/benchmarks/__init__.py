"""Result files of benchmark tools as end-to-end rows: what all share, and a module a tool."""
