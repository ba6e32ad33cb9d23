import Foundation
import KeelCore
import KeelGraph
import Testing

func f32(_ dimensions: Int...) -> TensorType { TensorType(Shape(dimensions), .float32) }
func f64(_ dimensions: Int...) -> TensorType { TensorType(Shape(dimensions), .float64) }
func i32(_ dimensions: Int...) -> TensorType { TensorType(Shape(dimensions), .int32) }

/// What the builder says of operations traced in a layer called `layer`; nil where it takes them.
func refusal(_ trace: (GraphBuilder) -> Void) -> String? {
  let builder = GraphBuilder()
  builder.scope("layer") { trace(builder) }
  return builder.error.map { "\($0)" }
}

/// What the type rule of `operation` says of operands of these types; nil where it takes them.
func refusal(_ operation: KeelGraph.Operation, _ inputs: TensorType...) -> String? {
  do {
    _ = try operation.rules.outputTypes(inputs)
    return nil
  } catch { return "\(error)" }
}

func outputTypes(_ operation: KeelGraph.Operation, _ inputs: TensorType...) throws -> [TensorType] {
  try operation.rules.outputTypes(inputs)
}

extension Pipeline {
  /// The standard one, which updates every parameter in its product, however small.
  static let fusingAllUpdates = Pipeline(
    Pipeline.standard.passes.map { $0.name == "fuseUpdate" ? .fuseEveryUpdate : $0 })
}

/// A graph traced by `body`, whose result becomes the output `y`.
func graph(_ name: String = "g", dtype: DType = .float32, _ body: (GraphBuilder) -> Tensor) throws -> Graph {
  let builder = GraphBuilder(name: name, mode: .training, dtype: dtype)
  builder.output("y", body(builder))
  return try builder.graph()
}

/// What the interpreter makes of the value that `body` traces.
func interpret(_ inputs: [String: [Double]] = [:], _ body: (GraphBuilder) -> Tensor) throws -> [Double] {
  let result = try Interpreter(graph(dtype: .float64, body)).run(inputs)
  return try #require(result.outputs["y"])
}

func normals(_ count: Int, _ random: inout Philox) -> [Double] { (0..<count).map { _ in random.nextNormal() } }

/// Values for every input of a graph: integers small enough to be labels and cursors, second moments not negative.
func randomInputs(_ graph: Graph, seed: UInt64) -> [String: [Double]] {
  var random = Philox(seed: seed, stream: 77)
  var inputs: [String: [Double]] = [:]
  for (_, input, type) in graph.inputs {
    inputs[input.label] = (0..<type.count).map { _ in
      if type.dtype == .int32 { return Double(random.nextIndex(below: 3)) }
      return input.role == .optimizerSlot ? abs(random.nextNormal()) : random.nextNormal()
    }
  }
  return inputs
}

/// The largest difference of two lists, relative to the larger of 1 and their magnitude; infinite where they are not
/// both finite or differ in length.
func distance(_ a: [Double], _ b: [Double]) -> Double {
  guard a.count == b.count else { return .infinity }
  return zip(a, b).map { x, y in
    x.isFinite && y.isFinite ? abs(x - y) / max(1, abs(x), abs(y)) : .infinity
  }.max() ?? 0
}

/// What a pipeline makes of a graph; it has to give the same results, for random inputs.
func sameResults(
  _ graph: Graph, after pipeline: Pipeline, sourceLocation: SourceLocation = #_sourceLocation
) throws -> Graph {
  let after = try pipeline.run(graph).verified()
  var inputs = randomInputs(graph, seed: 1)
  // What tests call c stands for variances, too.
  inputs["c"] = inputs["c"]?.map { abs($0) }
  let apart = distance(try Interpreter(after).run(inputs), try Interpreter(graph).run(inputs))
  #expect(apart < 1e-12, "\(graph.name)", sourceLocation: sourceLocation)
  return after
}

/// The largest difference in what two runs gave; infinite where they did not give the same things.
func distance(_ a: Interpreter.Result, _ b: Interpreter.Result) -> Double {
  guard Set(a.outputs.keys) == Set(b.outputs.keys), Set(a.variables.keys) == Set(b.variables.keys) else {
    return .infinity
  }
  let outputs = a.outputs.map { distance($0.value, b.outputs[$0.key] ?? []) }
  let variables = a.variables.map { distance($0.value, b.variables[$0.key] ?? []) }
  return (outputs + variables).max() ?? .infinity
}

/// Holds the gradients of Σ w·y, for random weights w, against central differences along random directions, one
/// variable at a time, in double precision.
///
/// - Parameters:
///   - domains: where a variable's values are drawn; −1...1 unless it stands here.
///   - fixed: values of inputs that are not differentiated.
///   - trace: gives y from the variables.
func expectGradients(
  _ variables: KeyValuePairs<String, TensorType>, domains: [String: ClosedRange<Double>] = [:],
  fixed: [String: [Double]] = [:], tolerance: Double = 1e-7, sourceLocation: SourceLocation = #_sourceLocation,
  trace: (GraphBuilder, [Tensor]) -> Tensor
) throws {
  var random = Philox(seed: 5)
  let builder = GraphBuilder(mode: .training, dtype: .float64)
  let tensors = variables.map { builder.input($0.key, $0.value) }
  let y = trace(builder, tensors)
  let weights = builder.constant(normals(y.shape.count, &random), y.shape)
  let loss = (y * weights).sum()
  builder.output("loss", loss)
  let traced = builder.gradients(of: loss, withRespectTo: tensors)
  for (variable, gradient) in zip(variables, traced) { builder.output(variable.key, gradient) }
  let interpreter = try Interpreter(builder.graph())

  var point = fixed
  for (name, type) in variables {
    let domain = domains[name] ?? -1...1
    point[name] = (0..<type.count).map { _ in
      domain.lowerBound + random.nextUniform() * (domain.upperBound - domain.lowerBound)
    }
  }
  let gradients = try interpreter.run(point).outputs
  for (name, type) in variables {
    let gradient = try #require(gradients[name], sourceLocation: sourceLocation)
    try #require(gradient.count == type.count, sourceLocation: sourceLocation)
    for _ in 0..<2 {
      let direction = normals(type.count, &random)
      let h = 1e-5
      func loss(at step: Double) throws -> Double {
        var moved = point
        moved[name] = zip(point[name] ?? [], direction).map { $0 + step * $1 }
        return try #require(interpreter.run(moved).outputs["loss"]?.first)
      }
      let slope = (try loss(at: h) - loss(at: -h)) / (2 * h)
      let product = zip(gradient, direction).map(*).reduce(0, +)
      #expect(
        abs(slope - product) <= tolerance * max(1, abs(slope)), "\(name): \(product), by differences \(slope)",
        sourceLocation: sourceLocation)
      // A slope of zero would agree with a gradient that nobody computed.
      #expect(abs(slope) > 1e-6, "\(name) does not move the result", sourceLocation: sourceLocation)
    }
  }
}
