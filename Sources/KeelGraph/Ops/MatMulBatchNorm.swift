import KeelCore

/// A product of matrices and the batch norm of its columns, with the statistics of the batch.
///
/// Operands: those of the product, then the batch norm's scale, shift and epilogue operands, all as ``MatMul`` and
/// ``BatchNormTraining`` have them. Results: the product, which the backward pass reads, then those of the batch norm.
public struct MatMulBatchNorm: OperationRules {
  public let product: MatMul
  public let batchNorm: BatchNormTraining

  public init(_ product: MatMul, _ batchNorm: BatchNormTraining) {
    self.product = product
    self.batchNorm = batchNorm
  }

  public var name: String { "matMulBatchNorm" }
  public var attributes: String {
    [product.attributes, batchNorm.attributes].filter { !$0.isEmpty }.joined(separator: ", ")
  }
  public var outputCount: Int { 1 + batchNorm.outputCount }

  /// How many operands are the product's.
  public var productOperands: Int { 2 + (product.epilogue.map { $0.inputCount - 1 } ?? 0) }

  public func outputTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    guard inputs.count > productOperands else {
      throw GraphError(name, "expects more than \(productOperands) operands, got \(inputs.count)")
    }
    let types = try product.outputTypes(Array(inputs[..<productOperands]))
    return try types + batchNorm.outputTypes(types + inputs[productOperands...])
  }

  public func gradient(_ context: GradientContext) -> [Tensor?]? { nil }

  public func definition(_ inputs: [Tensor]) -> [Tensor]? {
    let builder = inputs[0].builder
    let results = builder.append(.matMul(product), Array(inputs[..<productOperands]))
    return results + builder.append(.batchNormTraining(batchNorm), results + inputs[productOperands...])
  }
  public var inPlace: [(output: Int, operand: Int)] { [] }
}
