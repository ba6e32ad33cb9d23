import Foundation
import KeelCL
import KeelCore
import KeelGraph
import KeelNN
import KeelRuntime
import Testing

@testable import KeelTrain

/// All suites that use a device, one test after the other: they would only slow each other down.
@Suite(.serialized) enum TrainingTests {
  /// What `KEEL_DEVICE` asks for, else the best.
  static func device() throws -> Device { try Device.select() }

  /// Every device that can be used.
  static let devices = ((try? Device.all()) ?? []).filter(\.isUsable)

  /// Without this the tests that go through all devices would pass by having none.
  @Test static func thereIsADevice() throws { #expect(try !Device.all().filter(\.isUsable).isEmpty) }

  /// Whether a device computes in this type; says so where it does not.
  static func has(_ device: Device, _ dtype: DType, _ test: String) -> Bool {
    let has = dtype != .float64 || device.hasFP64
    if !has { print("skipped \(test) in \(dtype) on \(device.name): the device has no double precision") }
    return has
  }
}

extension Device: CustomTestStringConvertible {
  public var testDescription: String { name }
}

/// Samples of which each class has its own direction, with noise: [count, features].
func clusters(_ count: Int, features: Int = 8, classes: Int = 4, seed: UInt64 = 1) throws -> Dataset {
  var random = Philox(seed: seed)
  let centres = (0..<classes * features).map { _ in random.nextNormal() }
  let labels = (0..<count).map { ($0 * 7 + 3) % classes }
  let values = labels.flatMap { label in
    (0..<features).map { Float(centres[label * features + $0] + 0.5 * random.nextNormal()) }
  }
  return try Dataset(
    name: "clusters", features: HostTensor([count, features], values),
    labels: HostTensor([count], labels.map { Int32($0) }), classCount: classes)
}

/// Features, units, batch norm unless left out, ReLU, classes: the smallest network that has everything.
func network(_ features: Int = 8, _ classes: Int = 4, norm: Bool = true) -> Sequential {
  Sequential {
    Linear(features, 16, bias: !norm)
    if norm { BatchNorm(16) }
    ReLU()
    Linear(16, classes)
  }
}

/// Two linear layers with batch norm and the way around them.
struct Residual: Layer {
  let first: Linear
  let norm: BatchNorm
  let second: Linear

  init(_ features: Int) {
    first = Linear(features, features, bias: false)
    norm = BatchNorm(features)
    second = Linear(features, features)
  }

  func callAsFunction(_ x: Tensor) -> Tensor { x + second(norm(first(x)).relu()) }
}

extension Model {
  /// The bytes of every variable, by name.
  var bits: [String: [UInt8]] { Dictionary(uniqueKeysWithValues: state.map { ($0.name, $0.value.bytes) }) }

  /// A model of the same values that shares nothing with this one.
  func copy(_ layer: any Layer) throws -> Model {
    let model = Model(layer)
    try model.load(Dictionary(uniqueKeysWithValues: state.map { ($0.name, $0.value) }))
    return model
  }
}

extension Trainer {
  /// The bytes on the device: all parameters, statistics and optimizer slots.
  func deviceBits() throws -> [String: [UInt8]] {
    let slots = optimizer.rule.slots.flatMap { slot in model.parameters.map { $0.slotName(slot) } }
    let names = model.parameters.map(\.path) + model.runningStatistics.map(\.path) + slots
    return Dictionary(uniqueKeysWithValues: try names.map { ($0, try variables.read($0).bytes) })
  }
}

/// The running statistics of ``network(_:_:norm:)`` by name, sorted.
let networkStatistics = ["layers.1.batchesTracked", "layers.1.runningMean", "layers.1.runningVariance"]

/// The names of variables whose bytes differ.
func changed(_ a: [String: [UInt8]], _ b: [String: [UInt8]]) -> [String] { a.keys.filter { a[$0] != b[$0] }.sorted() }

/// The text of what `body` throws, or that it threw nothing.
func message<Result>(_ body: () throws -> Result) -> String {
  do { return "no error, but \(try body())" } catch { return "\(error)" }
}

/// The largest distance between two lists, relative to the largest number in the second where that is above 1.
/// Infinite when the lengths differ or a number is NaN.
func departure(_ a: [Double], _ b: [Double]) -> Double {
  guard a.count == b.count, (a + b).allSatisfy(\.isFinite) else { return .infinity }
  let scale = max(1, b.map { abs($0) }.max() ?? 1)
  return zip(a, b).map { abs($0 - $1) / scale }.max() ?? 0
}
