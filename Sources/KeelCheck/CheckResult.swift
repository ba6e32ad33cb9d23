import Foundation
import KeelCore

/// What became of one case with one variant.
public struct CheckResult: Sendable, CustomStringConvertible {
  public enum Verdict: Sendable, Equatable {
    case passed
    case failed(String)
    case skipped(String)
  }

  /// The result that came nearest to its bound, or went furthest beyond it.
  public struct Worst: Sendable {
    public var output: String
    /// Row-major.
    public var index: Int
    public var got: Double
    public var expected: Double
    /// In units of the type's epsilon times the bound's scale.
    public var error: Double
    public var bound: Double
    /// Of the output; nil where it is not known.
    public var shape: Shape? = nil

    /// ``index`` as a place in the output: `[3, 16]`.
    public var place: String {
      guard let shape, shape.count > index, !shape.dimensions.isEmpty else { return "\(index)" }
      var rest = index
      var place: [Int] = []
      for extent in shape.dimensions.reversed() {
        place.append(rest % extent)
        rest /= extent
      }
      return "\(Array(place.reversed()))"
    }

    /// Above 1 where the bound is broken.
    public var ratio: Double {
      error <= bound ? error / Swift.max(bound, .leastNonzeroMagnitude) : Swift.max(error / bound, 1.5)
    }
  }

  public var family: String
  /// Of the case, without its family.
  public var name: String
  public var seed: UInt64
  public var device: String
  public var variant: String
  public var verdict: Verdict
  public var worst: Worst?

  public var description: String {
    let numbers = worst.map {
      String(format: "%@ error %.3g eps, bound %.3g", $0.output, $0.error, $0.bound)
        + ($0.error > $0.bound ? ", at \($0.place): got \($0.got), expected \($0.expected)" : "")
    }
    let verdict =
      switch verdict {
      case .passed: "passed"
      case .failed(let reason): "FAILED: \(reason)"
      case .skipped(let reason): "skipped: \(reason)"
      }
    let title = "\(family) \(name) [\(variant)] on \(device)"
    return ["\(title): \(verdict)", numbers].compactMap { $0 }.joined(separator: "; ")
  }

  public var hasFailed: Bool { if case .failed = verdict { true } else { false } }
}

extension KernelCase {
  /// Compares all results with the reference; nil when there are none.
  func worst(_ got: [String: [Double]], _ reference: [String: [Double]]) -> CheckResult.Worst? {
    let parts = Set(sums.values.joined())
    var worst: CheckResult.Worst?
    func compare(_ name: String, _ got: [Double], _ expected: [Double]) {
      let bound = bounds[name] ?? bound
      let scales: (Int) -> Double
      switch bound.scale {
      case .largest:
        let largest = Self.largest(expected)
        scales = { _ in largest }
      case .largestOrAtLeast(let least):
        let largest = Swift.max(Self.largest(expected), least)
        scales = { _ in largest }
      case .each: scales = { Swift.max(Swift.abs(expected[$0]), dtype.leastNormalMagnitude) }
      case .fixed(let scale): scales = { _ in scale }
      case .output(let other):
        let values = reference[other] ?? []
        scales = { values.indices.contains($0) ? Swift.abs(values[$0]) : 0 }
      }
      for index in expected.indices {
        let error = Self.distance(
          got.indices.contains(index) ? got[index] : .nan, expected[index], scales(index) * epsilon)
        let candidate = CheckResult.Worst(
          output: name, index: index, got: got.indices.contains(index) ? got[index] : .nan, expected: expected[index],
          error: error, bound: eps(bound))
        if worst.map({ $0.ratio < candidate.ratio }) ?? true { worst = candidate }
      }
    }
    for (name, expected) in reference.sorted(by: { $0.key < $1.key }) where !parts.contains(name) {
      compare(name, got[name] ?? [], expected)
    }
    for (name, terms) in sums.sorted(by: { $0.key < $1.key }) {
      compare(name, Self.sum(terms.map { got[$0] ?? [] }), Self.sum(terms.map { reference[$0] ?? [] }))
    }
    return worst
  }

  private static func largest(_ values: [Double]) -> Double {
    values.lazy.filter(\.isFinite).map(Swift.abs).max() ?? 0
  }

  private static func sum(_ terms: [[Double]]) -> [Double] {
    guard let first = terms.first else { return [] }
    return first.indices.map { index in
      terms.reduce(0) { $0 + ($1.indices.contains(index) ? $1[index] : .nan) }
    }
  }

  /// The difference in units of `unit`. NaN is equal to NaN and to nothing else; so is each infinity.
  private static func distance(_ got: Double, _ expected: Double, _ unit: Double) -> Double {
    if got == expected || (got.isNaN && expected.isNaN) { return 0 }
    guard got.isFinite, expected.isFinite else { return .infinity }
    // A reference of 0: what is left is measured against the smallest numbers of single precision.
    return Swift.abs(got - expected) / Swift.max(unit, 1e-44)
  }
}
