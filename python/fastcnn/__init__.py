"""fastcnn: convolutional neural networks on the CPU."""
