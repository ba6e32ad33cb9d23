import KeelCore
import KeelGraph
import KeelPrimitives
import KeelRuntime

/// Runs kernel cases on a device and holds them against the interpreter in double precision.
///
/// A case passes when every result is within its bound, nothing was written behind any value, no input has changed,
/// and other executables, without guards and with memory shared between values, give the same bits.
public final class CheckRunner {
  public let context: ComputeContext
  private let guardBytes: Int
  private let repeats: Int
  private var lastReference: (label: String, seed: UInt64, reference: Reference)?

  /// - Parameters:
  ///   - guardBytes: canaries behind each value; memory is NaN before the run.
  ///   - repeats: how many more runs must give the bits of the first.
  public init(_ context: ComputeContext, guardBytes: Int = 256, repeats: Int = 1) {
    self.context = context
    self.guardBytes = guardBytes
    self.repeats = repeats
  }

  /// The case with every variant of its family that takes it, in the family's order.
  public func check(_ kernelCase: KernelCase) -> [CheckResult] {
    guard let variants = KernelFamilies.variants[kernelCase.family] else {
      return [result(kernelCase, "", .failed("there is no family \(kernelCase.family)"))]
    }
    if kernelCase.dtype == .float64, !context.profile.hasFP64 {
      return [result(kernelCase, "all", .skipped("the device has no double precision"))]
    }
    let results = variants.compactMap { check(kernelCase, variant: $0) }
    return results.isEmpty ? [result(kernelCase, "", .failed("no variant takes it"))] : results
  }

  /// The case with one variant; nil when that variant does not take it.
  public func check(_ kernelCase: KernelCase, variant: String) -> CheckResult? {
    do {
      return try run(kernelCase, variant)
    } catch let error as ExecutableError where error.underlying is VariantUnavailable {
      return nil
    } catch {
      return result(kernelCase, variant, .failed("\(error)"))
    }
  }

  func result(
    _ kernelCase: KernelCase, _ variant: String, _ verdict: CheckResult.Verdict, _ worst: CheckResult.Worst? = nil,
    digest: Digest? = nil
  ) -> CheckResult {
    CheckResult(
      family: kernelCase.family, name: kernelCase.name, seed: kernelCase.seed, device: context.profile.name,
      variant: variant, verdict: verdict, worst: worst, digest: digest)
  }

  private func run(_ kernelCase: KernelCase, _ variant: String) throws -> CheckResult {
    let graph = try kernelCase.graph()
    let inputs = try kernelCase.values()
    let first = try run(kernelCase, graph, inputs, variant, guardBytes: guardBytes)
    if let fault = first.fault { return result(kernelCase, variant, .failed(fault)) }

    let reference = try self.reference(kernelCase, graph, inputs)
    var worst = kernelCase.worst(first.results.mapValues(\.doubles), reference.values, terms: reference.terms)
    if let output = worst?.output {
      worst?.shape = first.results[kernelCase.sums[output]?.first ?? output]?.type.shape
    }
    var digest = Digest()
    for (_, tensor) in first.results.sorted(by: { $0.key < $1.key }) { digest.add(tensor) }
    if let worst, worst.error > worst.bound {
      return result(kernelCase, variant, .failed("\(worst.output) is wrong"), worst, digest: digest)
    }
    for number in 0..<repeats {
      let again = try run(kernelCase, graph, inputs, variant, guardBytes: 0)
      for (name, tensor) in first.results where !again.results[name].isSame(as: tensor) {
        return result(
          kernelCase, variant, .failed("\(name) has other bits in run \(number + 2)"), worst, digest: digest)
      }
    }
    return result(kernelCase, variant, .passed, worst, digest: digest)
  }

  /// What the results should be, by name, and the scales of those whose bounds are of their terms.
  private struct Reference {
    var values: [String: [Double]]
    var terms: [String: [Double]]
  }

  private func reference(
    _ kernelCase: KernelCase, _ graph: Graph, _ inputs: [String: HostTensor]
  ) throws -> Reference {
    if let lastReference, lastReference.label == kernelCase.description, lastReference.seed == kernelCase.seed {
      return lastReference.reference
    }
    let inputs = inputs.mapValues(\.doubles)
    let result = try Interpreter(graph).run(inputs)
    let reference = Reference(
      values: result.outputs.merging(result.variables) { $1 },
      terms: try kernelCase.termsGraph().map { try Interpreter($0).run(inputs).outputs } ?? [:])
    lastReference = (kernelCase.description, kernelCase.seed, reference)
    return reference
  }

  private struct Run {
    /// Outputs, and variables that the graph updates.
    var results: [String: HostTensor] = [:]
    var fault: String?
  }

  private func run(
    _ kernelCase: KernelCase, _ graph: Graph, _ inputs: [String: HostTensor], _ variant: String, guardBytes: Int
  ) throws -> Run {
    let variables = VariableStore(context, guardBytes: guardBytes)
    try variables.declare(graph.inputs.map { Variable($0.input.label, $0.type, $0.input.role) })
    for (_, input, _) in graph.inputs {
      if let values = inputs[input.label] { try variables.write(input.label, values) }
    }
    var options = Executable.Options()
    options.variants = [kernelCase.family: variant]
    options.guardBytes = guardBytes
    let executable = try Executable(graph, variables: variables, options: options)
    try executable.run()

    var run = Run()
    for output in graph.outputs { run.results[output.name] = try executable.output(output.name) }
    let updated = Set(
      graph.updates.compactMap { update -> String? in
        guard case .input(let input) = graph.nodes[update.variable.node].operation else { return nil }
        return input.label
      })
    for name in updated { run.results[name] = try variables.read(name) }

    let others = Set(executable.variants.filter { !$0.hasPrefix("\(kernelCase.family).") })
    if !executable.variants.contains("\(kernelCase.family).\(variant)") {
      run.fault = "no launch of the variant, but \(executable.variants.joined(separator: ", "))"
    } else if kernelCase.isFused, !others.isEmpty {
      run.fault = "expected to be fused into one family, got \(others.sorted().joined(separator: ", "))"
    }
    let broken = try executable.brokenGuards()
    if !broken.isEmpty { run.fault = "wrote behind \(broken.joined(separator: ", "))" }
    for (name, values) in inputs where !updated.contains(name) && variables.type(of: name) != nil {
      if try variables.read(name) != values { run.fault = "changed the input \(name)" }
    }
    return run
  }
}

extension HostTensor? {
  /// The same bytes, but for the sign and payload of NaNs, which OpenCL does not fix.
  fileprivate func isSame(as other: HostTensor) -> Bool {
    guard let self, self.type == other.type else { return false }
    return self == other
      || zip(self.doubles, other.doubles).allSatisfy { $0.bitPattern == $1.bitPattern || ($0.isNaN && $1.isNaN) }
  }
}
