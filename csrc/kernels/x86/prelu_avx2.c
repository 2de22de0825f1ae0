/* SPDX-License-Identifier: Apache-2.0
 *
 * PRelu, eight values at a time.
 */
#include "prelu.h"
