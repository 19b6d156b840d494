//! A Llama-family decoder on dfdx's tape with fused CPU ops, and Hugging Face folders
