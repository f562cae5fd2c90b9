/**
 * @file
 * lrp_edge for C, and for anything that can call C: C#, LabVIEW, HALCON, PLC gateways, Python's ctypes.
 *
 * No function throws or ends the process because of a caller's mistake. Each returns a status; lrp_edge_last_error()
 * returns what went wrong, in one line of UTF-8. Texts are in UTF-8 and end with a zero byte.
 *
 * Threads: a segmenter may be used by one thread at a time, and handed from one to another. Several segmenters are
 * independent of each other.
 *
 * Structures begin with their own size, which the caller sets (LRP_EDGE_..._INIT does). A later version of the library
 * may add fields at the end of a structure; it neither reads nor writes beyond the given size.
 */
#ifndef LRP_EDGE_H
#define LRP_EDGE_H

#include <stddef.h>
#include <stdint.h>

#if defined(LRP_EDGE_STATIC)
#define LRP_EDGE_C_API
#elif defined(_WIN32)
#if defined(LRP_EDGE_BUILDING)
#define LRP_EDGE_C_API __declspec(dllexport)
#else
#define LRP_EDGE_C_API __declspec(dllimport)
#endif
#else
#define LRP_EDGE_C_API __attribute__((visibility("default")))
#endif

#if defined(__cplusplus)
#define LRP_EDGE_NOEXCEPT noexcept
extern "C" {
#else
#define LRP_EDGE_NOEXCEPT
#endif

/** Grows when something is added to this file; existing parts stay unchanged. */
#define LRP_EDGE_ABI_VERSION 1

/** How a call ended. */
typedef int32_t lrp_edge_status;
enum {
  LRP_EDGE_OK = 0,
  LRP_EDGE_ERROR = 1,         /**< Something that the user can fix, as lrp_edge::Error. */
  LRP_EDGE_BAD_ARGUMENT = 2,  /**< A pointer is null, or a structure's size is not set. */
  LRP_EDGE_OUT_OF_MEMORY = 3, /**< The memory was not there. */
  LRP_EDGE_INTERNAL = 4       /**< Anything else. */
};

/** A loaded file. */
typedef struct lrp_edge_segmenter lrp_edge_segmenter;

/** How a file is opened. Begin with LRP_EDGE_OPTIONS_INIT. */
typedef struct lrp_edge_options {
  size_t struct_size;   /**< sizeof(lrp_edge_options). */
  const char* provider; /**< cpu, cuda, tensorrt, nv_tensorrt_rtx, openvino; null or empty for CUDA, else the CPU. */
  int32_t threads;      /**< Threads of one call on the CPU; 0 for as many as there are cores. */
  int32_t regions;      /**< 0 if regions are not to be looked for. */
  int64_t min_area;     /**< Regions of fewer pixels are left out. */
} lrp_edge_options;

#define LRP_EDGE_OPTIONS_INIT \
  { sizeof(lrp_edge_options), NULL, 0, 1, 1 }

/** One frame in a caller-owned buffer, which is read during the call only. */
typedef struct lrp_edge_frame {
  size_t struct_size;  /**< sizeof(lrp_edge_frame). */
  const uint8_t* data; /**< First byte of the upper row. */
  size_t height;       /**< Pixels. */
  size_t width;        /**< Pixels. */
  size_t channels;     /**< Bytes of a pixel, in the order that the model card says; 1 for gray. */
  ptrdiff_t stride;    /**< Bytes from one row to the next; 0 if the rows are adjacent. */
} lrp_edge_frame;

#define LRP_EDGE_FRAME_INIT \
  { sizeof(lrp_edge_frame), NULL, 0, 0, 0, 0 }

/** A connected region of a mask; pixels that touch at a corner are connected. Its size does not change. */
typedef struct lrp_edge_region {
  int32_t x;        /**< Left edge of the bounding box in pixels. */
  int32_t y;        /**< Upper edge of the bounding box. */
  int32_t width;    /**< Of the bounding box. */
  int32_t height;   /**< Of the bounding box. */
  int64_t area;     /**< Pixels. */
  double extent;    /**< Greatest distance of two points of its outline in pixels (maximum Feret diameter). */
  double relevance; /**< Mean relevance of its pixels. */
} lrp_edge_region;

/**
 * Class and mask of one frame. Everything pointed to belongs to the segmenter, and is valid until its next run or its
 * destruction; the name is valid until its destruction.
 */
typedef struct lrp_edge_result {
  size_t struct_size;             /**< sizeof(lrp_edge_result), set before the call. */
  int32_t label;                  /**< Index of the decided class. */
  int32_t defect;                 /**< 1 if that class counts as a defect, else 0. */
  const char* name;               /**< Name of that class. */
  const float* scores;            /**< [score_count] */
  size_t score_count;             /**< Number of classes. */
  size_t height;                  /**< Of mask and relevance: the frame's. */
  size_t width;                   /**< Of mask and relevance: the frame's. */
  const uint8_t* mask;            /**< [height, width], 255 where the defect is, else 0. */
  const float* relevance;         /**< [height, width] */
  const lrp_edge_region* regions; /**< [region_count], by falling area; of equal ones the upper, then the left first. */
  size_t region_count;            /**< Number of regions. */
  double milliseconds;            /**< Time of the engine's call, divided by the frames in it. */
} lrp_edge_result;

#define LRP_EDGE_RESULT_INIT \
  { sizeof(lrp_edge_result), 0, 0, NULL, NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0.0 }

/** Properties of a loaded file. Everything pointed to is valid until the segmenter is destroyed. */
typedef struct lrp_edge_info {
  size_t struct_size;    /**< sizeof(lrp_edge_info), set before the call. */
  const char* provider;  /**< What runs it. */
  const char* card_json; /**< The model card. */
  const char* order;     /**< Channel order of the frames: BGR, RGB or GRAY. */
  size_t channels;       /**< Of a frame. */
  size_t height;         /**< Of a frame; 0 if any is taken. */
  size_t width;          /**< Of a frame; 0 if any is taken. */
  size_t max_batch;      /**< The most frames in one call. */
  size_t class_count;    /**< Number of classes. */
} lrp_edge_info;

#define LRP_EDGE_INFO_INIT \
  { sizeof(lrp_edge_info), NULL, NULL, NULL, 0, 0, 0, 0, 0 }

/** Version of the library, e.g. "0.1.0". */
LRP_EDGE_C_API const char* lrp_edge_version(void) LRP_EDGE_NOEXCEPT;

/** LRP_EDGE_ABI_VERSION of the library that is loaded; one that is greater than the header's is compatible. */
LRP_EDGE_C_API int32_t lrp_edge_abi_version(void) LRP_EDGE_NOEXCEPT;

/**
 * Load a file.
 * @param path An .onnx file that `lrp-edge export` wrote, or an .engine of `lrp-edge compile`.
 * @param options Null for the defaults.
 * @param segmenter Where the handle is written; null if it fails.
 */
LRP_EDGE_C_API lrp_edge_status lrp_edge_create(const char* path, const lrp_edge_options* options,
                                               lrp_edge_segmenter** segmenter) LRP_EDGE_NOEXCEPT;

/** Release a segmenter; null is allowed. */
LRP_EDGE_C_API void lrp_edge_destroy(lrp_edge_segmenter* segmenter) LRP_EDGE_NOEXCEPT;

/** Return the properties of a loaded file. */
LRP_EDGE_C_API lrp_edge_status lrp_edge_get_info(lrp_edge_segmenter* segmenter, lrp_edge_info* info) LRP_EDGE_NOEXCEPT;

/** Name of a class; null if the index is out of range. Valid until the segmenter is destroyed. */
LRP_EDGE_C_API const char* lrp_edge_class_name(const lrp_edge_segmenter* segmenter, size_t index) LRP_EDGE_NOEXCEPT;

/**
 * Segment one frame. If it fails, the result is left as it was, and the segmenter stays usable, unless CUDA says that
 * the process cannot use the GPU any more.
 */
LRP_EDGE_C_API lrp_edge_status lrp_edge_run(lrp_edge_segmenter* segmenter, const lrp_edge_frame* frame,
                                            lrp_edge_result* result) LRP_EDGE_NOEXCEPT;

/**
 * Segment frames of one size in one call.
 * @param frames [count]; the first one's struct_size holds for all.
 * @param count At most the info's max_batch; 0 is allowed.
 * @param results [count]; the first one's struct_size holds for all.
 */
LRP_EDGE_C_API lrp_edge_status lrp_edge_run_batch(lrp_edge_segmenter* segmenter, const lrp_edge_frame* frames,
                                                  size_t count, lrp_edge_result* results) LRP_EDGE_NOEXCEPT;

/**
 * The message of the last failed call; empty if none has failed.
 * @param segmenter The one of that call; null for lrp_edge_create() and for calls without a segmenter, of this thread.
 * @return Valid until the next failed call.
 */
LRP_EDGE_C_API const char* lrp_edge_last_error(const lrp_edge_segmenter* segmenter) LRP_EDGE_NOEXCEPT;

#if defined(__cplusplus)
}
#endif

#endif
