/* consumer_c MODEL: says what a bright frame is. */

#include <lrp_edge.h>

#include <stdio.h>
#include <string.h>

static uint8_t pixels[480 * 640 * 3];

int main(int argc, char** argv) {
  lrp_edge_segmenter* segmenter = NULL;
  lrp_edge_frame frame = LRP_EDGE_FRAME_INIT;
  lrp_edge_result result = LRP_EDGE_RESULT_INIT;
  int failed = 0;
  if (argc != 2) return 2;
  if (lrp_edge_create(argv[1], NULL, &segmenter) != LRP_EDGE_OK) {
    fprintf(stderr, "error: %s\n", lrp_edge_last_error(NULL));
    return 1;
  }
  memset(pixels, 200, sizeof(pixels));
  frame.data = pixels;
  frame.height = 480;
  frame.width = 640;
  frame.channels = 3;
  failed = lrp_edge_run(segmenter, &frame, &result) != LRP_EDGE_OK;
  if (failed) {
    fprintf(stderr, "error: %s\n", lrp_edge_last_error(segmenter));
  } else {
    printf("%s, %u regions\n", result.name, (unsigned)result.region_count);
  }
  lrp_edge_destroy(segmenter);
  return failed;
}
