import KeelCore

/// A product that is the gradient of a parameter, and that parameter's update: the gradient is nowhere stored.
///
/// Operands: those of the product, then learning rates, cursor, the parameter, its slots, and when it is guarded a
/// scalar, all as an ``OptimizerStep`` has them. Results: the parameter, its slots. Neither is an operand of the product:
/// they are changed while that is computed.
public struct MatMulUpdate: OperationRules {
  public let product: MatMul
  public let rule: UpdateRule
  public var isGuarded: Bool

  public init(_ product: MatMul, _ rule: UpdateRule, isGuarded: Bool = false) {
    self.product = product
    self.rule = rule
    self.isGuarded = isGuarded
  }

  public var name: String { "matMulUpdate" }
  public var attributes: String {
    [product.attributes, step.attributes].filter { !$0.isEmpty }.joined(separator: ", ")
  }
  public var outputCount: Int { 1 + rule.slots.count }

  /// How many operands are the product's.
  public var productOperands: Int { 2 + (product.epilogue.map { $0.inputCount - 1 } ?? 0) }
  /// The position of the parameter; those of its slots follow.
  public var parameterPosition: Int { productOperands + 2 }

  /// The update of the parameter alone.
  private var step: OptimizerStep {
    var step = OptimizerStep(rule, count: 1)
    step.isGuarded = isGuarded
    return step
  }

  /// The operands of `step`.
  private func stepOperands<Operand>(_ inputs: [Operand], gradient: Operand) -> [Operand] {
    Array(inputs[productOperands...parameterPosition]) + [gradient] + inputs[(parameterPosition + 1)...]
  }

  public func outputTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try expect(inputs, count: parameterPosition + 1 + rule.slots.count + (isGuarded ? 1 : 0))
    let gradient = try product.outputTypes(Array(inputs[..<productOperands]))[0]
    return try step.outputTypes(stepOperands(inputs, gradient: gradient))
  }

  public func gradient(_ context: GradientContext) -> [Tensor?]? { context.inputs.map { _ in nil } }

  public func definition(_ inputs: [Tensor]) -> [Tensor]? {
    let builder = inputs[0].builder
    let gradient = builder.append(.matMul(product), Array(inputs[..<productOperands]))[0]
    return builder.append(.optimizerStep(step), stepOperands(inputs, gradient: gradient))
  }

  public var inPlace: [(output: Int, operand: Int)] {
    (0..<outputCount).map { (output: $0, operand: parameterPosition + $0) }
  }
}
