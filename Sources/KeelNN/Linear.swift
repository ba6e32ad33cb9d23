import KeelCore
import KeelGraph

/// A linear map of the last axis: y = x·W + b, [.., inputs] → [.., outputs]. Samples of several axes that together have
/// `inputs` values, such as [N, 28, 28] for 784, are taken flat: [N, outputs].
///
/// Parameters: `weight` [inputs, outputs] and, with a bias, `bias` [outputs]. Leave the bias out where batch norm
/// follows: it would be subtracted again.
public struct Linear: Layer {
  /// All settings of the layer as one value.
  public struct Options: Codable, Hashable, Sendable {
    /// Features of the operand; more than 0.
    public var inputs: Int
    /// Features of the result; more than 0.
    public var outputs: Int
    /// Whether b is added.
    public var bias: Bool
    /// How the first weights are drawn.
    public var weight: Initializer

    var problem: String? { Shape([inputs, outputs]).problem ?? weight.problem }
  }

  /// W [inputs, outputs].
  public let weight: Parameter
  /// b [outputs]; nil when left out.
  public let bias: Parameter?
  /// The settings that the layer was made with.
  public let options: Options

  /// - Parameters:
  ///   - inputs: features of the operand; more than 0.
  ///   - outputs: features of the result; more than 0.
  ///   - bias: whether b is added.
  ///   - weight: how the first weights are drawn. The default draws weights and bias as PyTorch does, uniformly in
  ///     ±1/√inputs; with any other the bias starts at 0.
  public init(_ inputs: Int, _ outputs: Int, bias: Bool = true, weight: Initializer = .fanInUniform) {
    self.init(Options(inputs: inputs, outputs: outputs, bias: bias, weight: weight))
  }

  init(_ options: Options) {
    self.options = options
    weight = Parameter([options.inputs, options.outputs], initializer: options.weight)
    let drawn = options.weight == .fanInUniform && options.inputs > 0
    let start: Initializer = drawn ? .uniform(1 / Double(options.inputs).squareRoot()) : .zeros
    bias = options.bias ? Parameter([options.outputs], initializer: start) : nil
  }

  /// x·W + b: [.., inputs] → [.., outputs].
  public func callAsFunction(_ x: Tensor) -> Tensor {
    x.inLayer(owning: [weight.path]) {
      if let problem = options.problem { return x.rejected("linear", problem) }
      let sample = x.shape.dimensions.dropFirst()
      if sample.count > 1, sample.last != options.inputs, sample.reduce(1, *) == options.inputs {
        return callAsFunction(x.reshape([x.shape[0], options.inputs]))
      }
      let leading = x.shape.dimensions.dropLast()
      guard !leading.isEmpty else {
        return x.rejected("linear", "expects samples [.., \(options.inputs)] of rank 2 or more, got \(x.shape)")
      }
      guard x.shape.dimensions.last == options.inputs else {
        return x.rejected("linear", "expects \(options.inputs) features on the last axis, got \(x.shape)")
      }
      let rows = x.shape.rank == 2 ? x : x.reshape([leading.reduce(1, *), options.inputs])
      var y = rows.matMul(weight)
      if let bias { y = y + bias }
      return x.shape.rank == 2 ? y : y.reshape(Shape(leading + [options.outputs]))
    }
  }

  public var configuration: LayerConfiguration? { .linear(options) }
}
