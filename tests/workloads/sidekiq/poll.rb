# Sidekiq's own poller, one round of it for each line of stdin: ruby poll.rb REDIS_URL; answers each with a line.
require "sidekiq"
require "sidekiq/scheduled"

Sidekiq.configure_client { |config| config.redis = {url: ARGV[0], timeout: 600, size: 1} }
Sidekiq.logger.level = Logger::FATAL
$stdout.sync = true

poller = Sidekiq::Scheduled::Enq.new
$stdin.each_line do
  poller.enqueue_jobs
  puts "polled"
end
