import KeelCore

/// How an optimizer changes a parameter p with gradient g at step t = 1, 2, …, with the learning rate η of the step.
public enum UpdateRule: Hashable, Sendable {
  /// g ← g + λp;  b ← μb + g;  p ← p − η·(nesterov ? g + μb : b). One slot, b; none when μ = 0.
  /// Source: Sutskever et al. 2013, in PyTorch's form (the learning rate outside of b).
  case sgd(momentum: Double, nesterov: Bool, weightDecay: Double)
  /// m ← β₁m + (1 − β₁)g;  v ← β₂v + (1 − β₂)g²;  p ← p − η·m/(1 − β₁ᵗ) / (√(v/(1 − β₂ᵗ)) + ε). Slots m, v.
  /// Source: Kingma & Ba 2015, algorithm 1; weight decay added to the gradient, as in PyTorch's `Adam`.
  case adam(beta1: Double, beta2: Double, epsilon: Double, weightDecay: Double)

  /// Tensors of the parameter's shape that the rule keeps, all zero at the start.
  public var slots: [String] {
    switch self {
    case .sgd(let momentum, _, _): momentum == 0 ? [] : ["momentum"]
    case .adam: ["firstMoment", "secondMoment"]
    }
  }
}

/// One update of all parameters.
///
/// Operands: learning rates [steps of an epoch], cursor, then n parameters, n gradients, n of each slot.
/// When it is guarded there is one more operand, a scalar, and nothing changes unless that is finite.
/// Results: n parameters, n of each slot. All of a kind lie side by side in memory, so this is one launch.
public struct OptimizerStep: OperationRules {
  public let rule: UpdateRule
  public let count: Int
  public var isGuarded = false

  public init(_ rule: UpdateRule, count: Int) {
    self.rule = rule
    self.count = count
  }

  public var name: String { "optimizerStep" }
  public var attributes: String { "\(rule)" + (isGuarded ? ", guarded" : "") }
  public var outputCount: Int { count * (1 + rule.slots.count) }

  /// Positions of the operands of each kind.
  public var parameters: Range<Int> { 2..<2 + count }
  public var gradients: Range<Int> { 2 + count..<2 + 2 * count }
  public func slot(_ index: Int) -> Range<Int> { 2 + (2 + index) * count..<2 + (3 + index) * count }
  /// The position of the scalar that a guarded step asks; nil when it asks none.
  public var guardPosition: Int? { isGuarded ? 2 + (2 + rule.slots.count) * count : nil }

  public func outputTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try expect(inputs, count: 2 + count * (2 + rule.slots.count) + (isGuarded ? 1 : 0))
    try expectGuard(guardPosition.map { inputs[$0] })
    let dtype = try expectReal([inputs[0]] + inputs.dropFirst(2))
    guard inputs[0].shape.rank == 1, inputs[0].count > 0, inputs[1] == Cursor.type, dtype == inputs[0].dtype else {
      throw GraphError(name, "expects learning rates [steps] and a cursor, got \(inputs[0]) and \(inputs[1])")
    }
    let parameters = Array(inputs[parameters])
    for position in [gradients] + rule.slots.indices.map(slot) where Array(inputs[position]) != parameters {
      throw GraphError(
        name, "expects gradients and slots of the parameters' types \(parameters), got \(Array(inputs[position]))")
    }
    return parameters + rule.slots.flatMap { _ in parameters }
  }

  public func gradient(_ context: GradientContext) -> [Tensor?]? { context.inputs.map { _ in nil } }
  public func definition(_ inputs: [Tensor]) -> [Tensor]? { nil }
  public var inPlace: [(output: Int, operand: Int)] {
    var pairs = parameters.map { (output: $0 - 2, operand: $0) }
    for index in rule.slots.indices {
      pairs += slot(index).enumerated().map { (output: (1 + index) * count + $0.offset, operand: $0.element) }
    }
    return pairs
  }
}
