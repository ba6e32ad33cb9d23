// KeelRuntime
