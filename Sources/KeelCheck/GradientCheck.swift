import Foundation
import KeelCore
import KeelGraph
import KeelPrimitives
import KeelRuntime

/// A scalar function of named inputs whose gradient is to be checked.
public struct GradientCase: Sendable, CustomStringConvertible {
  public var label: String
  public var seed: UInt64 = 1
  public var inputs: [CaseInput]
  /// The largest relative difference between the two derivatives.
  public var bound: Double = 1e-7
  /// Builds the function; its result has one element.
  public let loss: @Sendable (CaseTensors) -> Tensor

  public init(_ label: String, inputs: [CaseInput], loss: @escaping @Sendable (CaseTensors) -> Tensor) {
    self.label = label
    self.inputs = inputs
    self.loss = loss
  }

  public var description: String { label }
}

/// Checks gradients along one random direction an input, in double precision on the device: the derivative of the loss
/// along u is (L(x + hu) − L(x − hu)) / 2h, and ⟨∇L, u⟩.
public struct GradientCheck {
  public struct Result: Sendable, CustomStringConvertible {
    public var label: String
    /// The input along which the two differ most.
    public var input: String
    public var numeric: Double
    public var analytic: Double
    public var relativeError: Double
    public var bound: Double

    public var hasFailed: Bool { !(relativeError <= bound) }
    public var description: String {
      String(
        format: "%@ along %@: numeric %.9g, analytic %.9g, relative error %.2g, bound %.2g", label, input, numeric,
        analytic, relativeError, bound)
    }
  }

  /// No gradient can be checked on a device without double precision, or without an input that is real.
  public struct Failure: Error, CustomStringConvertible {
    public let description: String
  }

  private let context: ComputeContext
  private let options: Executable.Options
  private let step = 1e-5

  public init(_ context: ComputeContext, options: Executable.Options = Executable.Options()) {
    self.context = context
    self.options = options
  }

  /// Throws when the graph is wrong or the device has no double precision.
  public func run(_ gradientCase: GradientCase) throws -> Result {
    guard context.profile.hasFP64 else {
      throw Failure(
        description: "[gradient] \(gradientCase): expects double precision, \(context.profile.name) has none")
    }
    let builder = GraphBuilder(name: "gradient", mode: .training, dtype: .float64)
    let tensors = CaseTensors(builder, gradientCase.inputs)
    let loss = gradientCase.loss(tensors)
    let checked = gradientCase.inputs.filter { $0.dtype == nil }
    let gradients = builder.gradients(of: loss, withRespectTo: checked.map { tensors[$0.name] })
    builder.output("loss", loss)
    for (input, gradient) in zip(checked, gradients) { builder.output("d " + input.name, gradient) }
    let graph = try builder.graph()

    let variables = VariableStore(context)
    try variables.declare(graph.inputs.map { Variable($0.input.label, $0.type, $0.input.role) })
    var values: [String: HostTensor] = [:]
    for (stream, input) in gradientCase.inputs.enumerated() {
      values[input.name] = try input.values(.float64, seed: gradientCase.seed, stream: stream)
      if let value = values[input.name] { try variables.write(input.name, value) }
    }
    let executable = try Executable(graph, variables: variables, options: options)
    try executable.run()
    let gradientValues = try checked.map { try executable.output("d " + $0.name).doubles }

    var worst: Result?
    for (position, input) in checked.enumerated() {
      guard let origin = values[input.name] else { continue }
      var random = Philox(seed: gradientCase.seed, stream: UInt64(1000 + position))
      let direction = (0..<origin.count).map { _ in random.nextNormal() }
      func lossAt(_ offset: Double) throws -> Double {
        try variables.write(
          input.name, HostTensor(origin.type, values: zip(origin.doubles, direction).map { $0 + offset * $1 }))
        try executable.run()
        return try executable.output("loss").doubles[0]
      }
      let numeric = (try lossAt(step) - lossAt(-step)) / (2 * step)
      try variables.write(input.name, origin)
      let analytic = zip(gradientValues[position], direction).reduce(0) { $0 + $1.0 * $1.1 }
      // Derivatives near 0 are compared as they are: the difference quotient has an error of its own.
      let error = abs(numeric - analytic) / max(abs(numeric), abs(analytic), 1e-2)
      if worst.map({ !(error <= $0.relativeError) }) ?? true {
        worst = Result(
          label: gradientCase.label, input: input.name, numeric: numeric, analytic: analytic, relativeError: error,
          bound: gradientCase.bound)
      }
    }
    guard let worst else { throw Failure(description: "[gradient] \(gradientCase): expects a floating-point input") }
    return worst
  }
}

extension Tensor {
  /// The sum of the elements, each with a random weight of its own: a loss that no symmetry makes flat.
  func weightedSum(seed: UInt64 = 7) -> Tensor {
    var random = Philox(seed: seed)
    let weights = (0..<shape.count).map { _ in random.nextNormal() }
    return (self * builder.constant(weights, shape, dtype)).sum()
  }
}
