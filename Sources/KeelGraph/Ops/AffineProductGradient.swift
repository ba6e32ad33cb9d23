import KeelCore

/// The gradients of (γ⊙x̂ + β)·W with respect to W, γ and β, from Q = x̂ᵀ·dZ and s = Σₙ dZ:
///
///     dW = γ_c·Q + β_c·s_j    dγ = Σ_j W⊙Q    dβ = Σ_j W·s_j
///
/// That is what dW = yᵀ·dZ and dy = dZ·Wᵀ come to when nothing but γ and β asks for dy: the product dy, as large as
/// the one of the forward pass, is never made.
///
/// Operands: Q [C, J], W [C, J], s [J], γ [C], β [C]. Results: dW [C, J], dγ [C], dβ [C].
public struct AffineProductGradient: OperationRules {
  public init() {}

  public var name: String { "affineProductGradient" }
  public var attributes: String { "" }
  public var outputCount: Int { 3 }

  public func outputTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try expect(inputs, count: 5)
    try expectReal(inputs)
    let product = inputs[0]
    guard product.shape.rank == 2, inputs[1] == product, inputs[2].shape == [product.shape[1]],
      inputs[3].shape == [product.shape[0]], inputs[4] == inputs[3]
    else { throw GraphError(name, "expects Q and W [C, J], s [J], γ and β [C], got \(inputs)") }
    return [product, inputs[3], inputs[3]]
  }

  public func gradient(_ context: GradientContext) -> [Tensor?]? { nil }

  public func definition(_ inputs: [Tensor]) -> [Tensor]? {
    let (product, weight, sums) = (inputs[0], inputs[1], inputs[2])
    let channels: Shape = [product.shape[0], 1]
    return [
      inputs[3].reshape(channels) * product + inputs[4].reshape(channels) * sums, (weight * product).sum(axes: [1]),
      (weight * sums).sum(axes: [1]),
    ]
  }
  public var inPlace: [(output: Int, operand: Int)] { [] }
}
