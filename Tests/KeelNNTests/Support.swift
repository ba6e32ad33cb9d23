import KeelCore
import KeelGraph

@testable import KeelNN

/// The graph of a model called on an input `x` of this shape.
func graph(
  of layer: any Layer, _ shape: Shape, mode: Mode = .evaluation, dtype: DType = .float32
) throws -> Graph {
  let builder = GraphBuilder(name: "test", mode: mode, dtype: dtype)
  builder.output("y", Model(layer)(builder.input("x", TensorType(shape, dtype))))
  return try builder.graph()
}

/// The same as text.
func printed(_ layer: any Layer, _ shape: Shape, mode: Mode = .evaluation) throws -> String {
  try graph(of: layer, shape, mode: mode).description
}

/// The error of calling the model; nil when there is none.
func traceError(_ layer: any Layer, _ shape: Shape, mode: Mode = .evaluation, dtype: DType = .float32) -> String? {
  do {
    _ = try graph(of: layer, shape, mode: mode, dtype: dtype)
    return nil
  } catch {
    return "\(error)"
  }
}

/// Runs the model on the host with the variables' values and `x`.
func run(_ model: Model, _ shape: Shape, _ x: [Double], mode: Mode = .evaluation) throws -> Interpreter.Result {
  let graph = try graph(of: model.root, shape, mode: mode, dtype: .float64)
  var inputs = ["x": x]
  for (name, value) in model.state { inputs[name] = value.doubles }
  return try Interpreter(graph).run(inputs)
}

/// Two linear layers and the way around them.
struct Residual: Layer {
  let first: Linear
  let second: Linear
  let norm: BatchNorm?

  init(_ features: Int, norm: Bool = false) {
    first = Linear(features, features)
    second = Linear(features, features, bias: false)
    self.norm = norm ? BatchNorm(features) : nil
  }

  func callAsFunction(_ x: Tensor) -> Tensor {
    let inner = second(first(x).relu())
    return (norm?(inner) ?? inner) + x
  }
}
