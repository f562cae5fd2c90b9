/// @file
/// Version of a simulated TensorRT or TensorRT-RTX.
#ifndef SIMULATED_GPU_NV_INFER_VERSION_H
#define SIMULATED_GPU_NV_INFER_VERSION_H

#if defined(SIMULATED_RTX)
#define TRT_MAJOR_RTX 1
#define NV_TENSORRT_MAJOR 1
#define NV_TENSORRT_MINOR 7
#else
#define NV_TENSORRT_MAJOR 10
#define NV_TENSORRT_MINOR 3
#endif

#endif
