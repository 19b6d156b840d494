/* PyTorch's MKL leaves AVX-512 unused on AMD processors. Preloaded, this answers its question with yes:
 * cc -shared -fPIC -o mkl_avx512.so mkl_avx512.c; LD_PRELOAD=./mkl_avx512.so python ... */
int mkl_serv_intel_cpu_true(void) { return 1; }
