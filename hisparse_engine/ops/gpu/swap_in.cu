// The C interface of the swap-in kernels: each function launches on the stream it is given and returns a CUDA error code.
#include "copy.cuh"
#include "plan.cuh"
#include "rows.cuh"
#include "shrink.cuh"

namespace {

#ifdef __CUDACC__
template <class Args>
cudaError_t launch(void (*kernel)(Args), dim3 grid, int threads, size_t shared_bytes, cudaStream_t stream,
                   const Args& args, int team = 1) {
    cudaLaunchAttribute attributes[2]{};
    attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[0].val.programmaticStreamSerializationAllowed = 1;
    attributes[1].id = cudaLaunchAttributeClusterDimension;
    attributes[1].val.clusterDim.x = team, attributes[1].val.clusterDim.y = attributes[1].val.clusterDim.z = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = attributes;
    config.numAttrs = team > 1 ? 2 : 1;
    return cudaLaunchKernelEx(&config, kernel, args);
}

// Asks for shared memory; below 48 KiB no permission is needed.
template <class Args>
cudaError_t allow_shared(void (*kernel)(Args), size_t bytes) {
    if (bytes <= 40 * 1024) return cudaSuccess;
    return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}
#else  // tests
template <class Args>
cudaError_t launch(void (*kernel)(Args), dim3 grid, int threads, size_t, cudaStream_t, const Args& args, int team = 1) {
    cuda_on_cpu::run_grid(kernel, grid, threads, args, team);
    return cudaSuccess;
}

template <class Args>
cudaError_t allow_shared(void (*)(Args), size_t) {
    return cudaSuccess;
}
#endif

template <int V, int B, bool ALONE>
cudaError_t launch_plan(const PlanArgs& a, int batch, int team, int threads, cudaStream_t stream) {
    size_t bytes = sizeof(PlanShared) + sizeof(int) * V * threads;
    if (cudaError_t error = allow_shared(plan_swap_in<V, B, ALONE>, bytes)) return error;
    return launch(plan_swap_in<V, B, ALONE>, dim3(batch * team), threads, bytes, stream, a, team);
}

// The least power of two that is at least both.
int at_least(int power, int needed) {
    while (power < needed) power *= 2;
    return power;
}

bool aligned(const void* pointer, size_t bytes) { return reinterpret_cast<size_t>(pointer) % bytes == 0; }

unsigned long long inverse_of(int units) { return ((1ull << 40) + units - 1) / units; }

}  // namespace

extern "C" {

const char* hisparse_error(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }

#ifdef __CUDACC__
int hisparse_multiprocessors(int device, int* count) {
    return cudaDeviceGetAttribute(count, cudaDevAttrMultiProcessorCount, device);
}

// Whether the device reaches pinned host memory at the host's own address, as every kernel here takes for granted.
int hisparse_same_address(void* host, int* same) {
    void* device = nullptr;
    cudaError_t error = cudaHostGetDevicePointer(&device, host, 0);
    *same = device == host;
    return error;
}
#endif

// team: blocks for each request, 1, 2, 4 or 8.
int hisparse_plan_swap_in(PlanArgs* a, int batch, int team, cudaStream_t stream) {
    if (batch == 0) return cudaSuccess;
    auto with = [&](auto launcher, int v) {
        a->vectors = a->k % v == 0 && aligned(a->positions, 4 * v) && aligned(a->slots, 4 * v);
        return launcher(*a, batch, team, at_least(128, (a->k + v * team - 1) / (v * team)), stream);
    };
    int share = (a->k + team - 1) / team, seats = (a->max_buffer + team - 1) / team;
    if (share > 8 * 1024 || (share > 4 * 512 && team > 1)) return cudaErrorInvalidValue;
    if (share > 4 * 512) return with(launch_plan<8, 8, true>, 8);
    if (share > 2 * 512 && team > 1) return with(launch_plan<4, 9, false>, 4);
    if (team > 1) return share > 512 ? with(launch_plan<2, 7, false>, 2) : with(launch_plan<1, 4, false>, 1);
    return seats <= 9 * 512 ? with(launch_plan<4, 9, true>, 4) : with(launch_plan<4, 13, true>, 4);
}

// kind: 0 spread, 1 affine, 2 lines, 3 ranges; units_in_flight: 1, 2 or 4 for each thread.
int hisparse_copy_rows(CopyArgs* a, int kind, int units_in_flight, int blocks, int threads, cudaStream_t stream) {
    a->inverse = inverse_of(a->units);
    void (*kernels[4][3])(CopyArgs) = {{copy_spread<1>, copy_spread<2>, copy_spread<4>},
                                       {copy_affine<1>, copy_affine<2>, copy_affine<4>},
                                       {copy_lines<2>, copy_lines<2>, copy_lines<3>},
                                       {copy_ranges<2>, copy_ranges<2>, copy_ranges<3>}};
    return launch(kernels[kind][units_in_flight / 2], dim3(blocks), threads, 0, stream, *a);
}

int hisparse_locate(const LocateArgs* a, int batch, int threads, cudaStream_t stream) {
    return batch == 0 ? cudaSuccess : launch(locate, dim3(batch), threads, 0, stream, *a);
}

int hisparse_backup_rows(const BackupArgs* a, int blocks, int threads, cudaStream_t stream) {
    return a->batch == 0 ? cudaSuccess : launch(backup_rows, dim3(blocks), threads, 0, stream, *a);
}

int hisparse_shrink_buffer(const ShrinkArgs* a, int* buffer_size, int groups, int threads, cudaStream_t stream) {
    cudaError_t error = launch(shrink_buffer, dim3(groups), threads, 0, stream, *a);
    if (error) return error;
    return launch(shrink_size, dim3(1), 32, 0, stream, SizeArgs{buffer_size + a->row, a->kept});
}

int hisparse_move_rows(const MoveArgs* a, int layers, int blocks, int threads, cudaStream_t stream) {
    return layers == 0 ? cudaSuccess : launch(move_rows, dim3(blocks, layers), threads, 0, stream, *a);
}

}  // extern "C"
