"""Questions with answers: names and values in, a result out. One file a question; `import kvplan` offers them all."""
