import KeelCore
import KeelGraph

/// A function of tensors with parameters: called on a symbolic tensor it adds nodes to that tensor's graph.
///
/// A layer is a struct whose stored properties are parameters and other layers; their names become the parameters'
/// names. A layer of your own needs nothing but the call:
///
///     struct Residual: Layer {
///       let first = Linear(64, 64)
///       let second = Linear(64, 64)
///       func callAsFunction(_ x: Tensor) -> Tensor { x + second(first(x).relu()) }
///     }
public protocol Layer {
  /// Adds the layer to the graph of `x`. Never throws: wrong shapes are recorded in the graph's builder.
  func callAsFunction(_ x: Tensor) -> Tensor

  /// The layer as a value that can be stored; nil for layers that Keel does not know.
  var configuration: LayerConfiguration? { get }
}

extension Layer {
  /// Nil: a layer of your own has no description.
  public var configuration: LayerConfiguration? { nil }
}

/// A setting out of its range, or a description that does not fit: who asked, what was expected, what came.
public struct SettingsError: Error, Hashable, Sendable, CustomStringConvertible {
  /// Who speaks: a layer, an optimizer, or what was asked for (`load`, `fold`).
  public var operation: String
  /// What was expected and what came.
  public var message: String

  /// An error of this operation.
  public init(_ operation: String, _ message: String) {
    self.operation = operation
    self.message = message
  }

  /// As `[sgd] expects learningRate ≥ 0, got -0.1`.
  public var description: String { "[\(operation)] \(message)" }
}

extension Tensor {
  /// Runs `body` as inside of the layer that owns the variables at `paths`; its path is theirs without the last
  /// component. Where that is empty the path of the caller stays.
  func inLayer(owning paths: [String?], _ body: () -> Tensor) -> Tensor {
    builder.scope(layer: paths.compactMap { $0 }.first { !$0.isEmpty }?.parent ?? "", body)
  }

  /// Records an error at the current path and gives the tensor back.
  func rejected(_ operation: String, _ message: String) -> Tensor {
    builder.record(GraphError(operation, path: builder.path, message))
    return self
  }
}

extension GraphBuilder {
  /// As `scope(at:)`; an empty path, that of the root, changes nothing.
  func scope(layer path: String, _ body: () -> Tensor) -> Tensor {
    path.isEmpty ? body() : scope(at: path, body)
  }
}

extension String {
  /// The property path without its last component.
  var parent: String { split(separator: ".").dropLast().joined(separator: ".") }

  /// The path of `component` inside of this one.
  func appending(component: String) -> String { isEmpty ? component : self + "." + component }
}

extension Shape {
  /// What is wrong with this shape as that of a variable; nil when nothing is. Kernels count elements in 32 bits.
  var problem: String? {
    var count = 1
    for extent in dimensions {
      guard extent > 0 else { return "expects positive extents, got \(self)" }
      let (product, overflow) = count.multipliedReportingOverflow(by: extent)
      guard !overflow, product <= Int(Int32.max) else { return "expects at most \(Int32.max) elements, got \(self)" }
      count = product
    }
    return nil
  }
}
