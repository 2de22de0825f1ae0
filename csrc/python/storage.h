/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory of the Python module: aligned blocks and mapped files.
 */
#ifndef EK_PYTHON_STORAGE_H
#define EK_PYTHON_STORAGE_H

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "edgekit/edgekit.h"
#include "platform/huge_pages.h"

struct FreeBlock {
    void operator()(void *block) const { std::free(block); }
};
using Block = std::unique_ptr<void, FreeBlock>;

/* Zeroed memory aligned to EK_ALIGN; at least one unit, so that it is never null. */
inline Block aligned_block(std::size_t bytes) {
    const std::size_t rounded = (bytes / EK_ALIGN + 1) * EK_ALIGN;
    void *block = std::aligned_alloc(EK_ALIGN, rounded);
    if (block == nullptr) throw std::bad_alloc();
    use_huge_pages(block, rounded);
    std::memset(block, 0, rounded);
    return Block(block);
}

/* The bytes of a model: a private mapping of a file, or an aligned copy. A file must not be
 * truncated while it is mapped; replacing it by renaming another one over it is fine. */
class Storage {
public:
    Storage(const void *bytes, std::size_t size) : size_(size), copy_(aligned_block(size)) {
        std::memcpy(copy_.get(), bytes, size);
        data_ = copy_.get();
    }

    /* Throws the errno of what failed. */
    explicit Storage(const std::string &path) {
        const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (file < 0) throw errno;
        struct stat info = {};
        int error = ::fstat(file, &info) == 0 ? 0 : errno;
        if (error == 0 && S_ISDIR(info.st_mode)) error = EISDIR;
        if (error == 0 && !S_ISREG(info.st_mode)) error = EINVAL;
        if (error == 0) error = map(file, static_cast<std::size_t>(info.st_size));
        ::close(file);
        if (error != 0) throw error;
    }

    ~Storage() {
        if (mapped_) ::munmap(data_, size_);
    }

    Storage(const Storage &) = delete;
    Storage &operator=(const Storage &) = delete;

    const void *data() const { return data_; }
    std::size_t size() const { return size_; }

private:
    int map(int file, std::size_t size) {
        size_ = size;
        if (size == 0) { /* mmap refuses it; the loader says what is wrong with an empty file */
            copy_ = aligned_block(0);
            data_ = copy_.get();
            return 0;
        }
        void *address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
        if (address == MAP_FAILED) return errno;
        data_ = address;
        mapped_ = true;
        return 0;
    }

    void *data_ = nullptr;
    std::size_t size_ = 0;
    bool mapped_ = false;
    Block copy_;
};

#endif /* EK_PYTHON_STORAGE_H */
