/* A Video4Linux camera without a camera: preloaded, it answers the calls by which a program drives one.

   The device is an ordinary file, into which each frame is written before it is handed out. The environment says what
   the camera is: V4L2_FORMAT (four letters), V4L2_WIDTH, V4L2_HEIGHT, V4L2_FRAMES (a folder with the frames' bytes in
   files 0, 1, ...; behind the last one the camera gives nothing, or is pulled out if there is a file "gone"), and
   V4L2_LOG (where it writes what was asked of it). */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BUFFERS = 4, PERIOD_MS = 20 };
static int device = -1, queued[BUFFERS], first, waiting, next_frame;
static size_t size;

static int number(const char *name) { return atoi(getenv(name)); }

static void note(const char *what, long a, long b)
{
    FILE *log = fopen(getenv("V4L2_LOG"), "a");
    fprintf(log, "%s %ld %ld\n", what, a, b);
    fclose(log);
}

static FILE *frame_file(void)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%d", getenv("V4L2_FRAMES"), next_frame);
    return fopen(path, "rb");
}

static int pulled_out(void)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/gone", getenv("V4L2_FRAMES"));
    return access(path, F_OK) == 0;
}

static void describe(struct v4l2_format *format)
{
    const char *name = getenv("V4L2_FORMAT");
    struct v4l2_pix_format *pix = &format->fmt.pix;
    pix->width = number("V4L2_WIDTH");
    pix->height = number("V4L2_HEIGHT");
    pix->pixelformat = v4l2_fourcc(name[0], name[1], name[2], name[3]);
    pix->bytesperline = 2 * pix->width;
    pix->sizeimage = size = 4 * pix->width * pix->height;
}

static int give(struct v4l2_buffer *buffer)
{
    FILE *file = frame_file();
    if (!file || !waiting) {
        if (file)
            fclose(file);
        errno = EAGAIN;
        return -1;
    }
    buffer->index = queued[first];
    first = (first + 1) % BUFFERS;
    waiting--;
    char *bytes = malloc(size);
    buffer->bytesused = fread(bytes, 1, size, file);
    fclose(file);
    next_frame++;
    if (pwrite(device, bytes, buffer->bytesused, buffer->index * size) < 0)
        perror("pwrite");
    free(bytes);
    buffer->length = size;
    buffer->flags = V4L2_BUF_FLAG_DONE | V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    /* The frame was there before it was fetched. */
    long milliseconds = now.tv_sec * 1000 + now.tv_nsec / 1000000 - PERIOD_MS;
    buffer->timestamp.tv_sec = milliseconds / 1000;
    buffer->timestamp.tv_usec = milliseconds % 1000 * 1000;
    return 0;
}

static int answer(unsigned long request, void *argument)
{
    struct v4l2_capability *capability = argument;
    struct v4l2_requestbuffers *asked = argument;
    struct v4l2_buffer *buffer = argument;
    struct v4l2_streamparm *rate = argument;
    struct v4l2_queryctrl *query = argument;
    struct v4l2_control *control = argument;
    switch (request) {
    case VIDIOC_QUERYCAP:
        capability->capabilities = capability->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        return 0;
    case VIDIOC_S_FMT:
        note("size", ((struct v4l2_format *)argument)->fmt.pix.width, ((struct v4l2_format *)argument)->fmt.pix.height);
        /* fall through */
    case VIDIOC_G_FMT:
    case VIDIOC_TRY_FMT:
        describe(argument);
        return 0;
    case VIDIOC_S_PARM:
        note("rate", rate->parm.capture.timeperframe.denominator, rate->parm.capture.timeperframe.numerator);
        return 0;
    case VIDIOC_G_PARM:
        rate->parm.capture.timeperframe.numerator = 1;
        rate->parm.capture.timeperframe.denominator = 1000 / PERIOD_MS;
        return 0;
    case VIDIOC_REQBUFS:
        if (asked->count > BUFFERS)
            asked->count = BUFFERS;
        first = waiting = 0;
        return ftruncate(device, BUFFERS * size);
    case VIDIOC_QUERYBUF:
        buffer->length = size;
        buffer->m.offset = buffer->index * size;
        return 0;
    case VIDIOC_QBUF:
        queued[(first + waiting++) % BUFFERS] = buffer->index;
        return 0;
    case VIDIOC_DQBUF:
        return give(buffer);
    case VIDIOC_STREAMON:
    case VIDIOC_STREAMOFF:
        return 0;
    case VIDIOC_QUERYCTRL:
        query->minimum = 0;
        query->maximum = 10000;
        query->step = 1;
        return 0;
    case VIDIOC_S_CTRL:
        note("control", control->id, control->value);
        return 0;
    default:
        errno = EINVAL;
        return -1;
    }
}

int ioctl(int handle, unsigned long request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (_IOC_TYPE(request) == 'V') {
        device = handle;
        return answer(request & 0xffffffff, argument);
    }
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    return real(handle, request, argument);
}

int poll(struct pollfd *files, nfds_t count, int milliseconds)
{
    int (*real)(struct pollfd *, nfds_t, int) = dlsym(RTLD_NEXT, "poll");
    if (count != 1 || files->fd != device)
        return real(files, count, milliseconds);
    FILE *file = frame_file();
    usleep(1000 * (file ? PERIOD_MS : milliseconds));
    files->revents = file ? POLLIN | POLLRDNORM : pulled_out() ? POLLERR : 0;
    if (file)
        fclose(file);
    return files->revents != 0;
}
