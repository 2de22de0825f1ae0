/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers of the protocol in which a runtime on a board serves another machine. edgekit/serving/
 * reads them from here. All are uint32 in the board's byte order, which is little-endian on
 * every target; `text` is a length and characters, `time` nanoseconds in two words, the low one first.
 *
 *     request                          reply
 *     HELLO                            EK_SERVE_VERSION; number of processors; number of kernel sets
 *                                      that can run, and for each its bit and its name, a text
 *     MODEL, bytes, file               status and error offset of ek_open; where the status is EK_OK the
 *                                      time that it took
 *     FILE, path (text)                the same for a file of the board, whose reading is part of the time
 *     PREPARE, kernel sets (0: all     status of ek_create and 0; where that is EK_OK memory and scratch
 *       that can run), threads,        in bytes, time that it took, number of steps, and for each the
 *       whether weights are repacked   operator's index and the name of its kernel, a text
 *     RUN, instance, ek_serve_show,    for every operator, as it is done, the tensor's index, bytes and
 *       for each input format, data    data as `show` says; EK_SERVE_NO_TENSOR; every output; time that
 *                                      the run took; bytes of stack in use at most, 0 if not known
 *     TIME, instance, runs             for each run of the last inputs the time that it took
 *     END
 *
 * A model stays until the next one comes, and so do its instances, which are numbered from 0 on. Nothing
 * answers a request that cannot be served: the program ends with a code of ek_serve_exit.
 */
#ifndef EK_SERVE_PROTOCOL_H
#define EK_SERVE_PROTOCOL_H

#define EK_SERVE_VERSION 1

#define EK_SERVE_NO_TENSOR 0xFFFFFFFFu

/* Inputs of a model, and outputs. */
#define EK_SERVE_MAX_PORTS 32

/* Instances of a model. */
#define EK_SERVE_MAX_INSTANCES 4

/* Runs of one TIME: their times are kept until the last one is over. */
#define EK_SERVE_MAX_RUNS 1024

typedef enum ek_serve_request {
    EK_SERVE_END = 0,
    EK_SERVE_HELLO = 1,
    EK_SERVE_MODEL = 2,
    EK_SERVE_FILE = 3,
    EK_SERVE_PREPARE = 4,
    EK_SERVE_RUN = 5,
    EK_SERVE_TIME = 6
} ek_serve_request;

/* What of each operator's result a run shows. */
typedef enum ek_serve_show {
    EK_SERVE_OUTPUTS = 0, /* nothing: ek_run as users call it */
    EK_SERVE_DIGESTS = 1, /* its SHA-256 */
    EK_SERVE_VALUES = 2,  /* the tensor */
    EK_SERVE_TIMES = 3    /* the time that the operator took */
} ek_serve_show;

typedef enum ek_serve_exit {
    EK_SERVE_BROKEN_PIPE = 121, /* the other side is gone */
    EK_SERVE_BAD_REQUEST = 122,
    EK_SERVE_TOO_LARGE = 123    /* for the board's memory, or for the limits above */
} ek_serve_exit;

#endif /* EK_SERVE_PROTOCOL_H */
