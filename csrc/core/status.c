/* SPDX-License-Identifier: Apache-2.0 */
#include "edgekit/edgekit.h"

const char *ek_status_string(ek_status status)
{
    switch (status) {
    case EK_OK: return "success";
    case EK_ERROR_TRUNCATED: return "the file is shorter than its header says";
    case EK_ERROR_MAGIC: return "not an .ekm file";
    case EK_ERROR_VERSION: return "the file has another major format version";
    case EK_ERROR_FEATURE: return "the file needs a feature that this runtime lacks";
    case EK_ERROR_CHECKSUM: return "the file is damaged: a checksum differs";
    case EK_ERROR_HEADER: return "a header field or a section is out of range";
    case EK_ERROR_TENSOR: return "a tensor record is out of range";
    case EK_ERROR_OPERATOR: return "an operator record is out of range or does not fit its tensors";
    case EK_ERROR_LIFETIME:
        return "a tensor is read before it is written, or overlaps one that is still needed";
    case EK_ERROR_SCALE: return "a scale or multiplier is not finite or out of range";
    case EK_ERROR_ARGUMENT: return "a null pointer, or an index or format that does not exist";
    case EK_ERROR_ALIGNMENT: return "memory is not aligned to EK_ALIGN";
    case EK_ERROR_MEMORY: return "less memory than ek_memory_needed says";
    case EK_ERROR_SIZE: return "a buffer has not the size of its tensor";
    case EK_ERROR_UNBOUND: return "an input or output is not bound";
    case EK_ERROR_FLOAT_STATE:
        return "floating point does not round to nearest even, or the build contracts a*b+c";
    case EK_ERROR_KERNELS: return "no kernel set that was asked for is in this build";
    }
    return "unknown status";
}
