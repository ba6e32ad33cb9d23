// KeelPrimitives
