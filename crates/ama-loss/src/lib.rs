//! Log-probability and preference-loss kernels for language-model alignment
