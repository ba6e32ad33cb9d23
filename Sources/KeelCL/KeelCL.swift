// KeelCL
