/* SPDX-License-Identifier: Apache-2.0
 *
 * Addition with broadcasting, eight values at a time.
 */
#include "add.h"
