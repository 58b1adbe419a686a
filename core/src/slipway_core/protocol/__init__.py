"""What an executor and the processes it starts say to each other: commands, variables, exit codes, results, files."""
