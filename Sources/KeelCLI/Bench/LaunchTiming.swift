import Foundation
import Keel

extension Timing {
  /// Seconds that a run should take, so that neither clock nor wait matter.
  private static let runSeconds = 0.01

  /// How often work is to be repeated in a run.
  ///
  /// - Parameter seconds: of one, as the mean of so many.
  static func count(_ seconds: (_ count: Int) throws -> Double) rethrows -> Int {
    // The first one pays for what the driver compiles at the first launch.
    _ = try seconds(1)
    let estimate = try (0..<3).map { _ in try seconds(3) }.min() ?? runSeconds
    return max(Int(runSeconds / max(estimate, 1e-9)), 1)
  }
}

extension ComputeContext {
  /// The launches of a problem, with the workspace that they want.
  ///
  /// - Parameter forced: the variant's name; nil for the one that the library chooses.
  func bind<Problem: KernelProblem>(
    _ problem: Problem, forced: String?, outputs: [Buffer], inputs: [Buffer]
  ) throws -> (variant: String, launches: [BoundLaunch]) {
    let variant = try problem.variant(on: profile, forced: forced.map { [Problem.family: $0] } ?? [:])
    let workspaceBytes = variant.workspaceBytes(problem, profile)
    let workspace = workspaceBytes > 0 ? try buffer(byteCount: workspaceBytes) : nil
    let operands = Operands(outputs: outputs, inputs: inputs, workspace: workspace)
    return (variant.name, try variant.bind(problem, operands, self))
  }

  /// Seconds of launches, as the mean of `count` times that they are given to the queue one after another.
  func seconds(of launches: [CompiledLaunch], count: Int) throws -> Double {
    try Timing.seconds {
      for _ in 0..<count {
        for launch in launches { try launch.enqueue(on: queue) }
      }
      try queue.finish()
    } / Double(count)
  }
}
