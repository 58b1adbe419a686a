"""A model as one GGUF file, for llama.cpp and Ollama: a download beside the artifact."""
