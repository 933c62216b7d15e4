%% Erlang's ssl as a server for scripts/bench: an echo, or a relay to a plain TCP backend.
%%
%%     erl -noinput -pa DIR -run tls_relay start CERTIFICATE.pem PORT [BACKEND_PORT] ...
%%
%% Each group of arguments, separated by "and", is a listener.
-module(tls_relay).
-export([start/1]).

start(Arguments) ->
    %% A listener ends with the process that made it.
    spawn(fun() ->
        [listen(Listener) || Listener <- split(Arguments, [], [])],
        timer:sleep(infinity)
    end).

split([], Group, Groups) -> [lists:reverse(Group) | Groups];
split(["and" | Rest], Group, Groups) -> split(Rest, [], [lists:reverse(Group) | Groups]);
split([Argument | Rest], Group, Groups) -> split(Rest, [Argument | Group], Groups).

listen([Certificate, Port | Backend]) ->
    Options = [{certfile, Certificate}, {keyfile, Certificate}, {ip, {127, 0, 0, 1}}, binary,
               {active, false}, {nodelay, true}, {backlog, 1024}, {reuseaddr, true},
               {versions, ['tlsv1.3', 'tlsv1.2']}, {session_tickets, disabled},
               {reuse_sessions, false}, {log_level, none}],
    {ok, Listener} = ssl:listen(list_to_integer(Port), Options),
    %% Several may accept at once, as in ranch and cowboy.
    [spawn(fun() -> accept(Listener, Backend) end) || _ <- lists:seq(1, 16)].

accept(Listener, Backend) ->
    {ok, Transport} = ssl:transport_accept(Listener),
    Connection = spawn(fun() -> receive go -> serve(Transport, Backend) end end),
    ok = ssl:controlling_process(Transport, Connection),
    Connection ! go,
    accept(Listener, Backend).

serve(Transport, Backend) ->
    case ssl:handshake(Transport, 30000) of
        {ok, Socket} when Backend =:= [] ->
            ssl:setopts(Socket, [{active, true}]),
            echo(Socket);
        {ok, Socket} ->
            {ok, Plain} = gen_tcp:connect({127, 0, 0, 1}, list_to_integer(hd(Backend)),
                                          [binary, {active, 16}, {nodelay, true},
                                           {buffer, 65536}]),
            ssl:setopts(Socket, [{active, 16}]),
            relay(Socket, Plain);
        {error, _} ->
            ok
    end.

echo(Socket) ->
    receive
        {ssl, Socket, Bytes} -> ssl:send(Socket, Bytes), echo(Socket);
        _ -> ssl:close(Socket)
    end.

relay(Socket, Plain) ->
    receive
        {ssl, Socket, Bytes} -> gen_tcp:send(Plain, Bytes), relay(Socket, Plain);
        {tcp, Plain, Bytes} -> ssl:send(Socket, Bytes), relay(Socket, Plain);
        {ssl_passive, Socket} -> ssl:setopts(Socket, [{active, 16}]), relay(Socket, Plain);
        {tcp_passive, Plain} -> inet:setopts(Plain, [{active, 16}]), relay(Socket, Plain);
        _ -> ssl:close(Socket), gen_tcp:close(Plain)
    end.
