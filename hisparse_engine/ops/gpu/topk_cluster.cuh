// What the top-k kernel needs of a cluster of thread blocks: who is where, two barriers, each other's shared memory.
#pragma once

#ifdef __CUDACC__
#include <cooperative_groups.h>
#include <cuda_runtime.h>

namespace {

constexpr int THREADS = 512;  // of a block

__device__ inline int thread_index() { return threadIdx.x; }
__device__ inline void sync_block() { __syncthreads(); }

struct Cluster {
    cooperative_groups::cluster_group group = cooperative_groups::this_cluster();

    __device__ int blocks() const { return group.num_blocks(); }
    __device__ int rank() const { return group.block_rank(); }
    __device__ int index() const { return blockIdx.x / group.num_blocks(); }
    __device__ void sync() const { group.sync(); }

    // The place in the shared memory of block `rank` that corresponds to `own` in this block's.
    template <class T>
    __device__ T* of(T* own, int rank) const {
        return group.map_shared_rank(own, rank);
    }
};

__device__ inline unsigned char* block_memory() {
    extern __shared__ __align__(16) unsigned char memory[];
    return memory;
}

}  // namespace
#else  // tests
#include "cluster_on_cpu.h"
#endif
