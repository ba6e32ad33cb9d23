// KeelIO
