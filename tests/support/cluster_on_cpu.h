// Clusters of thread blocks over cuda_on_cpu.h: a cluster's threads are fibers together, and each block of them has its
// own barrier and its own stretch of shared memory, which the others reach.
#pragma once

#include <math.h>

#include <bit>
#include <cassert>
#include <cstring>

#include "cuda_on_cpu.h"

struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

constexpr int THREADS = 128;  // of a block: few, for a switch of fibers is slow

namespace cluster_on_cpu {

constexpr int MOST_BLOCKS = THREADS / cuda_on_cpu::LANES;
inline int blocks, block_bytes;
inline cuda_on_cpu::Barrier block_barriers[MOST_BLOCKS];

// One cluster after another, `row` being its index.
template <class Args>
void run(void (*kernel)(Args), int rows, int blocks_a_row, int bytes, const Args& args) {
    blocks = blocks_a_row, block_bytes = (bytes + 15) / 16 * 16;
    assert(blocks <= MOST_BLOCKS && blocks * block_bytes <= static_cast<int>(sizeof cuda_on_cpu::dynamic_shared));
    std::memset(cuda_on_cpu::dynamic_shared, 0x7f, sizeof cuda_on_cpu::dynamic_shared);  // nothing may count on zeros
    cuda_on_cpu::run_grid(kernel, dim3(rows), THREADS * blocks, args);
}

}  // namespace cluster_on_cpu

inline int thread_index() { return threadIdx.x % THREADS; }
inline int block_rank() { return threadIdx.x / THREADS; }
inline void sync_block() { cuda_on_cpu::wait_at(cluster_on_cpu::block_barriers[block_rank()], THREADS); }
inline unsigned char* block_memory() {
    return reinterpret_cast<unsigned char*>(cuda_on_cpu::dynamic_shared) + block_rank() * cluster_on_cpu::block_bytes;
}

struct Cluster {
    int blocks() const { return cluster_on_cpu::blocks; }
    int rank() const { return block_rank(); }
    int index() const { return blockIdx.x; }
    void sync() const { __syncthreads(); }

    template <class T>
    T* of(T* own, int rank) const {
        const auto bytes = static_cast<ptrdiff_t>(rank - block_rank()) * cluster_on_cpu::block_bytes;
        return reinterpret_cast<T*>(reinterpret_cast<char*>(own) + bytes);
    }
};

inline float __shfl_xor_sync(unsigned mask, float value, int step) {
    const int lane = cuda_on_cpu::lane();
    return cuda_on_cpu::among_lanes(mask, std::bit_cast<int>(value), [=](const long long* all) {
        return std::bit_cast<float>(static_cast<int>(all[lane ^ step]));
    });
}
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }

template <class T>
T atomicExch(T* address, T value) {
    T old = *address;
    *address = value;
    return old;
}
