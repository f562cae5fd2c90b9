/* lrp_edge_c_interface MODEL: the C interface from C99, with what a caller may do wrong. */

#include <lrp_edge.h>

#include <stdio.h>
#include <string.h>

static int failures = 0;

static void expect(int holds, const char* what) {
  if (!holds) {
    printf("not so: %s\n", what);
    ++failures;
  }
}

static void run_frames(lrp_edge_segmenter* segmenter) {
  static uint8_t bytes[4 * 5 * 3];
  lrp_edge_frame frame = LRP_EDGE_FRAME_INIT;
  lrp_edge_result result = LRP_EDGE_RESULT_INIT;
  memset(bytes, 255, sizeof(bytes));
  frame.data = bytes;
  frame.height = 4;
  frame.width = 5;
  frame.channels = 3;
  expect(lrp_edge_run(segmenter, &frame, &result) == LRP_EDGE_OK, "a frame is run");
  expect(result.defect == 1 && strcmp(result.name, "stain") == 0, "a bright frame is stained");
  expect(result.region_count == 1 && result.regions[0].area == 20, "all of it is one region");
  frame.channels = 2;
  expect(lrp_edge_run(segmenter, &frame, &result) == LRP_EDGE_ERROR, "two channels are an error");
  expect(strstr(lrp_edge_last_error(segmenter), "[4, 5, 2]") != NULL, "the shape is named");
  expect(result.region_count == 1, "the result is as it was");
  frame.channels = 3;
  expect(lrp_edge_run(segmenter, &frame, &result) == LRP_EDGE_OK, "the segmenter can be used on");
}

static void give_nothing(lrp_edge_segmenter* segmenter) {
  lrp_edge_frame frame = LRP_EDGE_FRAME_INIT;
  lrp_edge_result result = LRP_EDGE_RESULT_INIT;
  expect(lrp_edge_create("model.onnx", NULL, NULL) == LRP_EDGE_BAD_ARGUMENT, "there is no place for the handle");
  expect(lrp_edge_run(NULL, &frame, &result) == LRP_EDGE_BAD_ARGUMENT, "there is no segmenter");
  expect(strstr(lrp_edge_last_error(NULL), "segmenter is null") != NULL, "and that is said");
  expect(lrp_edge_run(segmenter, NULL, &result) == LRP_EDGE_BAD_ARGUMENT, "there is no frame");
  expect(lrp_edge_run(segmenter, &frame, NULL) == LRP_EDGE_BAD_ARGUMENT, "there is no result");
  expect(lrp_edge_get_info(segmenter, NULL) == LRP_EDGE_BAD_ARGUMENT, "there is no info");
  frame.struct_size = 0;
  expect(lrp_edge_run(segmenter, &frame, &result) == LRP_EDGE_BAD_ARGUMENT, "the size is not set");
  expect(lrp_edge_class_name(segmenter, 2) == NULL, "there is no third class");
  lrp_edge_destroy(NULL);
}

int main(int argc, char** argv) {
  lrp_edge_segmenter* segmenter = NULL;
  lrp_edge_info info = LRP_EDGE_INFO_INIT;
  if (argc < 2) return 2;
  expect(lrp_edge_create("missing.onnx", NULL, &segmenter) == LRP_EDGE_ERROR && segmenter == NULL, "nothing is opened");
  expect(strcmp(lrp_edge_last_error(NULL), "no model at missing.onnx") == 0, "the file is named");
  if (lrp_edge_create(argv[1], NULL, &segmenter) != LRP_EDGE_OK) {
    printf("%s\n", lrp_edge_last_error(NULL));
    return 1;
  }
  expect(lrp_edge_get_info(segmenter, &info) == LRP_EDGE_OK, "it says what it is");
  expect(info.channels == 3 && info.class_count == 2 && info.max_batch == 3, "as the card has it");
  run_frames(segmenter);
  give_nothing(segmenter);
  lrp_edge_destroy(segmenter);
  printf("lrp_edge %s, ABI %d: %d failures\n", lrp_edge_version(), (int)lrp_edge_abi_version(), failures);
  return failures == 0 ? 0 : 1;
}
