"""How a downscaler is run: tiles and threads, backends, devices, ONNX."""
