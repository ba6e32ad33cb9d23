import Foundation
import KeelCL
import KeelCore
import KeelGraph
import KeelPrimitives

/// Looks for the fastest variant of single operations on one device.
///
/// Every variant that takes the problem is a candidate. Its results are compared with those of the family's naive
/// variant first, with guards behind its values; a candidate that is wrong is not timed. It is then timed in turns with
/// the best so far, and takes its place when it is faster by more than 3 % in the smallest time and in the median. Where
/// the variant in use is wrong, the first that is right takes its place, however fast.
///
/// Where a training step's launches are merged, as on CPUs, what cannot be merged does not take the place of what can:
/// it would cut a step in two. What can takes the place of what cannot, however fast. Candidates are timed as launches
/// of their own there too, which is not quite how a step runs them; but timed in merged launches, sixteen times one
/// operation, choices were found that made a step slower: such a launch may have another number of workers than the
/// step.
public final class Tuner {
  /// What became of a candidate.
  public enum Verdict: Equatable, Sendable {
    /// It took the place of the best so far, whose time is this multiple of its own.
    case faster(Double)
    /// It is not faster by so much: the same multiple.
    case slower(Double)
    /// It took the place of the current variant, which is wrong, or of the best so far, which unlike it cannot be
    /// merged, however fast it is.
    case preferred
    /// It cannot be part of a merged launch, and the best so far can.
    case notMergeable
    /// Its results are wrong, or it failed.
    case wrong(String)
  }

  /// What was found for one problem.
  public struct Outcome: Sendable {
    /// What was solved.
    public let key: ProblemKey
    /// Sizes of the problem that stood for all of its key.
    public let label: String
    /// What is used without tuning again.
    public let current: String
    /// The best, which may be the current one; that too where all are wrong.
    public let best: String
    /// The smallest time of the current variant, and of the best, in seconds, from the turns with each other. Nil for
    /// one that is wrong.
    public let seconds: (current: Double?, best: Double?)
    /// The others, in order; before them the current one when it is wrong.
    public let candidates: [(variant: String, verdict: Verdict)]
  }

  private let context: ComputeContext
  private let repeats: Int
  private let merges: Bool

  /// How much faster a candidate must be.
  private static let margin = 1.03
  /// Seconds that a timed run should take.
  private static let runSeconds = 0.005
  private static let guardBytes = 256
  /// Epsilons of a result's largest magnitude. Variants differ by the order of sums; how exact each is, kernel cases show.
  private static let tolerance = 1024.0
  /// Epsilons of the largest of all results: one of them may be what another's rounding left over.
  private static let remainder = 4.0

  /// - Parameters:
  ///   - repeats: turns.
  ///   - merges: whether the steps that are tuned for are merged, where the device does that.
  public init(
    _ context: ComputeContext, repeats: Int = 7, merges: Bool = Executable.Options.environment.merges
  ) {
    self.context = context
    self.repeats = repeats
    self.merges = merges && context.profile.isCPU
  }

  /// The nodes of a graph that there is a choice for, one for each key.
  public func problems(of graph: Graph) throws -> [Graph] {
    var keys: Set<ProblemKey> = []
    return try graph.nodes.indices.compactMap { index in
      let lowering = Lowering(graph: graph, profile: context.profile, forced: [:])
      guard let problem = try lowering.lower(graph.nodes[index])?.problem,
        KernelFamilies.variants[problem.key.family, default: []].count > 1, keys.insert(problem.key).inserted
      else { return nil }
      return graph.isolated(index)
    }
  }

  /// Tunes the one operation of a graph that ``problems(of:)`` gave, or that was built with one. Throws what the device
  /// says of the naive variant, without which nothing can be compared.
  public func tune(_ graph: Graph) throws -> Outcome {
    guard let node = graph.nodes.last,
      let lowered = try Lowering(graph: graph, profile: context.profile, forced: [:]).lower(node),
      let problem = lowered.problem, let names = KernelFamilies.variants[problem.key.family], let naive = names.last
    else { throw ExecutableError("[tune] \(graph.name): expects an operation that kernels are chosen for") }
    let family = problem.key.family
    let current = String(lowered.variant.dropFirst(family.count + 1))

    let inputs = try Self.values(of: graph)
    let reference = try results(graph, inputs, [family: naive])
    let timed = try variables(graph, inputs, guardBytes: 0)

    var best: (name: String, executable: Executable, isMergeable: Bool)?
    var times: (current: Double?, best: Double?)
    var candidates: [(String, Verdict)] = []
    for name in [current] + names.filter({ $0 != current }) {
      do {
        if let fault = try Self.fault(of: results(graph, inputs, [family: name]), reference) {
          candidates.append((name, .wrong(fault)))
          continue
        }
        let rival = try Executable(graph, variables: timed, options: Self.options([family: name]))
        // Where nothing is merged all are alike.
        let isMergeable = try !merges || rival.isMergeable()
        if let best, best.isMergeable, !isMergeable {
          candidates.append((name, .notMergeable))
          continue
        }
        _ = try seconds(rival, count: 1)
        guard let champion = best else {
          times.best = try seconds(rival, count: 1)
          if name == current { times.current = times.best } else { candidates.append((name, .preferred)) }
          best = (name, rival, isMergeable)
          continue
        }
        let turns = try ratios(champion.executable, rival)
        if champion.name == current { times.current = turns.seconds.best }
        let isPreferred = isMergeable && !champion.isMergeable
        guard isPreferred || min(turns.ofMinima, turns.ofMedians) > Self.margin else {
          candidates.append((name, .slower(turns.ofMinima)))
          // Times that are compared are of the same turns.
          if champion.name == current || times.current == nil { times.best = turns.seconds.best }
          continue
        }
        candidates.append((name, isPreferred ? .preferred : .faster(turns.ofMinima)))
        times.best = turns.seconds.rival
        best = (name, rival, isMergeable)
      } catch let error as ExecutableError where error.underlying is VariantUnavailable {
        continue
      } catch {
        candidates.append((name, .wrong("\(error)")))
      }
    }
    return Outcome(
      key: problem.key, label: problem.label, current: current, best: best?.name ?? current, seconds: times,
      candidates: candidates)
  }

  // MARK: Checking

  /// Positive numbers around 1, which no function is undefined for; labels, orders and cursors are 0.
  private static func values(of graph: Graph) throws -> [(name: String, tensor: HostTensor)] {
    try graph.inputs.enumerated().map { stream, input in
      var generator = Philox(seed: 0, stream: UInt64(stream))
      let values = (0..<input.type.count).map { _ -> Double in
        switch input.type.dtype {
        case .uint8: Double(generator.nextIndex(below: 256))
        case .int32: 0
        default: 0.5 + generator.nextUniform()
        }
      }
      return (input.input.label, try HostTensor(input.type, values: values))
    }
  }

  private func variables(
    _ graph: Graph, _ inputs: [(name: String, tensor: HostTensor)], guardBytes: Int
  ) throws -> VariableStore {
    let variables = VariableStore(context, guardBytes: guardBytes)
    try variables.declare(inputs.map { Variable($0.name, $0.tensor.type, .data) })
    for input in inputs { try variables.write(input.name, input.tensor) }
    return variables
  }

  private static func options(_ variants: [String: String]) -> Executable.Options {
    var options = Executable.Options()
    options.variants = variants
    return options
  }

  /// With variables of its own: a variant that writes where it must not spoils nothing for those after it.
  private func results(
    _ graph: Graph, _ inputs: [(name: String, tensor: HostTensor)], _ variants: [String: String]
  ) throws -> [HostTensor] {
    let variables = try variables(graph, inputs, guardBytes: Self.guardBytes)
    var options = Self.options(variants)
    options.guardBytes = Self.guardBytes
    let executable = try Executable(graph, variables: variables, options: options)
    try executable.run()
    let results = try graph.outputs.map { try executable.output($0.name) }
    let broken = try executable.brokenGuards()
    guard broken.isEmpty else { throw ExecutableError("[tune] wrote behind \(broken.joined(separator: ", "))") }
    return results
  }

  /// What is wrong with results; nil for nothing. Integers are to be the same; what is only stored in its type may have
  /// been rounded to its other neighbour.
  static func fault(of results: [HostTensor], _ reference: [HostTensor]) -> String? {
    let largest = reference.map { $0.doubles.filter(\.isFinite).map(abs).max() ?? 0 }
    let remainder = Self.remainder * (largest.max() ?? 0)
    for (index, (values, expected)) in zip(results, reference).enumerated() {
      let dtype = expected.type.dtype
      let epsilon = dtype.isFloatingPoint ? dtype.arithmetic.epsilon : 0
      let rounding = dtype.isStorageOnly ? dtype.epsilon : 0
      let bound = epsilon * (tolerance * largest[index] + remainder)
      for (value, wanted) in zip(values.doubles, expected.doubles) {
        let isSame = value == wanted || value.isNaN && wanted.isNaN
        guard isSame || abs(value - wanted) <= bound + rounding * abs(wanted) else {
          return "result \(index) has \(value) for \(wanted)"
        }
      }
    }
    return nil
  }

  // MARK: Timing

  private struct Turns {
    /// Of the best so far, divided by the rival's.
    var ofMinima: Double
    var ofMedians: Double
    /// The smallest times.
    var seconds: (best: Double, rival: Double)
  }

  private func ratios(_ best: Executable, _ rival: Executable) throws -> Turns {
    let (a, b) = (try seconds(best, count: 1), try seconds(rival, count: 1))
    // What is far slower needs no second look.
    if b > 4 * a + Self.runSeconds { return Turns(ofMinima: a / b, ofMedians: a / b, seconds: (a, b)) }
    let count = max(Int(Self.runSeconds / max(min(a, b), 1e-7)), 1)
    var times: (best: [Double], rival: [Double]) = ([], [])
    for _ in 0..<repeats {
      times.best.append(try seconds(best, count: count))
      times.rival.append(try seconds(rival, count: count))
    }
    let sorted = (best: times.best.sorted(), rival: times.rival.sorted())
    return Turns(
      ofMinima: sorted.best[0] / sorted.rival[0],
      ofMedians: sorted.best[repeats / 2] / sorted.rival[repeats / 2], seconds: (sorted.best[0], sorted.rival[0]))
  }

  /// Of one run, as the mean of `count` that are given to the queue one after another.
  private func seconds(_ executable: Executable, count: Int) throws -> Double {
    let begin = ContinuousClock.now
    for _ in 0..<count { try executable.run() }
    try context.queue.finish()
    return (ContinuousClock.now - begin) / .seconds(count)
  }
}
