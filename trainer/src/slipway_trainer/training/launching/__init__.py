"""The processes of a stage that has several: started on this node, and told as one how they ended."""
