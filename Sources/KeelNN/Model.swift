import KeelCore
import KeelGraph

/// A layer and everything below it, with a name for each variable.
///
/// Names are property paths (`layers.0.weight`, `block.second.bias`), found by walking the stored properties of the
/// layers: arrays contribute the index, dictionaries the key, optionals nothing. A variable that is reached twice
/// keeps its first name, and the layers that hold it share it. Two variables of one name (dictionary keys with dots, a
/// private property that a superclass has, too) make a model that can't be used: whatever can throw says so.
public final class Model {
  /// The layer that the model was made of.
  public let root: any Layer
  /// All parameters, in the order of declaration; a shared one stands there once.
  public let parameters: [Parameter]
  /// All running statistics, in the order of declaration.
  public let runningStatistics: [RunningStatistic]
  private let names: Names
  /// What is wrong with the names of variables; nil when nothing is.
  private let nameProblem: String?

  /// Walks through the layer and gives each variable its path. The variables get no values yet.
  public init(_ root: any Layer) {
    var names = Names()
    names.visit(root, "")
    self.root = root
    self.names = names
    nameProblem = names.problem
    parameters = names.parameters.map(\.variable)
    runningStatistics = names.runningStatistics.map(\.variable)
    names.assign()
  }

  /// Traces the network on `x`. Layers that meanwhile were part of another model get their names of this one back.
  public func callAsFunction(_ x: Tensor) -> Tensor {
    assignPaths()
    if let problem = nameProblem { x.builder.record(GraphError("model", problem)) }
    return root(x)
  }

  func assignPaths() { names.assign() }

  /// Throws when two variables have one name.
  func checkNames(_ operation: String) throws(SettingsError) {
    if let problem = nameProblem { throw SettingsError(operation, problem) }
  }

  /// The parameters that the optimizer moves, in the order of declaration.
  public var trainableParameters: [Parameter] { parameters.filter(\.isTrainable) }

  /// The description of the network; nil when a layer in it is not one of Keel's, or when layers share a parameter,
  /// which a description of layers one by one cannot say.
  public var configuration: LayerConfiguration? { names.sharesVariables ? nil : root.configuration }

  /// Draws the first values of variables that have none. Values that are there are converted to `dtype` and kept.
  ///
  /// The same seed gives the same values, whatever is asked for first: a parameter's stream of random numbers is that
  /// of its place in ``parameters``.
  /// - Parameter reset: draw all values again.
  /// - Throws: ``SettingsError`` with the variable's path, for a shape or an initializer that is impossible, for a
  ///   value of another shape, and for a name that two variables have.
  public func initialize(seed: UInt64, dtype: DType = .float32, reset: Bool = false) throws {
    try checkNames("initialize")
    assignPaths()
    for (position, parameter) in parameters.enumerated() {
      parameter.value = try value(of: parameter.path, parameter.shape, reset ? nil : parameter.value, dtype) {
        try parameter.initializer.values($0, seed: seed, position: position)
      }
    }
    for statistic in runningStatistics {
      statistic.value = try value(of: statistic.path, statistic.shape, reset ? nil : statistic.value, dtype) {
        try Initializer.constant(statistic.initialValue).values($0, seed: seed, position: 0)
      }
    }
  }

  /// The known value in the wanted type, or a drawn one.
  private func value(
    of path: String, _ shape: Shape, _ known: HostTensor?, _ dtype: DType, draw: (TensorType) throws -> HostTensor
  ) throws -> HostTensor {
    if let known {
      guard known.shape == shape else {
        throw SettingsError("initialize", "\(path): expects a value of shape \(shape), got \(known.type)")
      }
      return known.converted(to: dtype)
    }
    do {
      return try draw(TensorType(shape, dtype))
    } catch let error as SettingsError {
      throw SettingsError(error.operation, "\(path): \(error.message)")
    }
  }
}

/// The walk over stored properties and what it found.
private struct Names {
  var parameters: [(variable: Parameter, path: String)] = []
  var runningStatistics: [(variable: RunningStatistic, path: String)] = []
  var places: [(place: Place, path: String)] = []
  var sharesVariables = false
  /// What is wrong with the names; nil when nothing is.
  var problem: String? {
    var known: Set<String> = []
    let twice = (parameters.map(\.path) + runningStatistics.map(\.path)).first { !known.insert($0).inserted }
    return twice.map { "expects a name for each variable, got two variables named \($0)" }
  }
  private var seen: Set<ObjectIdentifier> = []

  mutating func visit(_ value: Any, _ path: String) {
    switch value {
    case let parameter as Parameter:
      if isNew(parameter) { parameters.append((parameter, path)) } else { sharesVariables = true }
    case let statistic as RunningStatistic:
      if isNew(statistic) { runningStatistics.append((statistic, path)) } else { sharesVariables = true }
    case let place as Place:
      // Its own property is not part of the layer's path.
      if isNew(place) { places.append((place, path.parent)) }
    case is HostTensor, is String, is [UInt8], is [Int32], is [Int], is [Float], is [Double]:
      // Data; walking through it would take long and find nothing.
      break
    default:
      visitChildren(of: value, path)
    }
  }

  private mutating func visitChildren(of value: Any, _ path: String) {
    let mirror = Mirror(reflecting: value)
    // Objects may refer to each other in circles.
    if mirror.displayStyle == .class, !isNew(value as AnyObject) { return }
    switch mirror.displayStyle {
    case .optional:
      for child in mirror.children { visit(child.value, path) }
    case .set:
      break
    case .dictionary:
      // Dictionaries have another order in each run; keys in order have not.
      let pairs = mirror.children.map { Mirror(reflecting: $0.value).children.map(\.value) }
      for pair in pairs.sorted(by: { "\($0[0])" < "\($1[0])" }) {
        visit(pair[1], path.appending(component: "\(pair[0])"))
      }
    default:
      var ancestor = mirror.superclassMirror
      while let current = ancestor {
        visit(current.children, path)
        ancestor = current.superclassMirror
      }
      visit(mirror.children, path)
    }
  }

  private mutating func visit(_ children: Mirror.Children, _ path: String) {
    for (index, child) in children.enumerated() {
      // Unnamed elements of a tuple are labelled ".0".
      let component = child.label.map { $0.hasPrefix(".") ? String($0.dropFirst()) : $0 } ?? "\(index)"
      visit(child.value, path.appending(component: component))
    }
  }

  private mutating func isNew(_ object: AnyObject) -> Bool { seen.insert(ObjectIdentifier(object)).inserted }

  func assign() {
    for (parameter, path) in parameters { parameter.path = path }
    for (statistic, path) in runningStatistics { statistic.path = path }
    for (place, path) in places { place.path = path }
  }
}
