import KeelCore

/// op(A) · op(B) of matrices, then an expression over the product and further operands.
///
/// Operands: A [M, K] ([K, M] with `transposeA`), B [K, N] ([N, K] with `transposeB`), then those of the epilogue,
/// which broadcast to [M, N]. In the epilogue's expression input 0 is the product.
public struct MatMul: OperationRules {
  public var transposeA: Bool
  public var transposeB: Bool
  public var epilogue: Expression?

  public init(transposeA: Bool = false, transposeB: Bool = false, epilogue: Expression? = nil) {
    self.transposeA = transposeA
    self.transposeB = transposeB
    self.epilogue = epilogue
  }

  public var name: String { "matMul" }
  public var attributes: String {
    var parts: [String] = []
    if transposeA || transposeB { parts.append((transposeA ? "T" : "N") + (transposeB ? "T" : "N")) }
    if let epilogue { parts.append("epilogue \(epilogue)") }
    return parts.joined(separator: ", ")
  }
  public var outputCount: Int { 1 }

  /// M, N and K for operands of these shapes.
  public func extents(_ a: Shape, _ b: Shape) -> (m: Int, n: Int, k: Int) {
    (transposeA ? a[1] : a[0], transposeB ? b[0] : b[1], transposeA ? a[0] : a[1])
  }

  public func outputTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try expect(inputs, count: 2, slot: epilogue)
    let dtype = try expectReal(inputs)
    guard inputs[0].shape.rank == 2, inputs[1].shape.rank == 2 else {
      throw GraphError(name, "expects two matrices, got \(inputs[0]) and \(inputs[1])")
    }
    let (m, n, k) = extents(inputs[0].shape, inputs[1].shape)
    let inner = inputs[1].shape[transposeB ? 1 : 0]
    guard k == inner else {
      throw GraphError(
        name,
        "expects inner extents that agree, got \(inputs[0].shape) · \(inputs[1].shape)"
          + (transposeA || transposeB ? " (read transposed: \(transposeA ? "A" : "")\(transposeB ? "B" : ""))" : ""))
    }
    let product = TensorType([m, n], dtype)
    guard try broadcastShape([product] + inputs.dropFirst(2), name) == product.shape else {
      throw GraphError(name, "expects epilogue operands that broadcast to \(product.shape), got \(inputs.dropFirst(2))")
    }
    return [product]
  }

  public func gradient(_ context: GradientContext) -> [Tensor?]? {
    guard epilogue == nil else { return nil }
    guard let dy = context.cotangents[0] else { return [nil, nil] }
    let (a, b) = (context.inputs[0], context.inputs[1])
    // C = A·B: dA = dC·Bᵀ, dB = Aᵀ·dC; transposed operands swap the factors.
    let da =
      transposeA
      ? b.matMul(dy, transposeA: transposeB, transposeB: true) : dy.matMul(b, transposeB: !transposeB)
    let db =
      transposeB
      ? dy.matMul(a, transposeA: true, transposeB: transposeA) : a.matMul(dy, transposeA: !transposeA)
    return [da, db]
  }

  public func definition(_ inputs: [Tensor]) -> [Tensor]? {
    guard let epilogue else { return nil }
    let product = inputs[0].matMul(inputs[1], transposeA: transposeA, transposeB: transposeB)
    return [epilogue.trace([product] + inputs.dropFirst(2))]
  }
  public var inPlace: [(output: Int, operand: Int)] { [] }
}
